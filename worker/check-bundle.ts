import assert from "node:assert";
import { AsyncLocalStorage } from "node:async_hooks";
import { createContext, Script } from "node:vm";
import { isReservedExport } from "../supabase/functions/_shared/service-code.ts";
import { describeError } from "./exit.ts";
import { MODULES_EXPORT } from "./workflow-entry.ts";

export interface BundleCheck {
  problems: string[];
  /** Why the exports could not be looked at, though the bundle may well be right. */
  unverified?: string | undefined;
  /** Names under which it exports functions of the service's. */
  functions: string[];
}

/**
 * Evaluates a bundle as a Temporal Worker would and compares its exports with the names that a manifest gives.
 *
 * Without it a missing export shows at the first workflow, as a task that is retried for ever. It stands on the SDK's
 * internals (`__TEMPORAL__`, `__webpack_module_cache__`), as does the bundle: the version is pinned.
 */
export function checkBundle(code: string, expected: readonly { name: string; module: string }[]): BundleCheck {
  let exported: Record<string, unknown>;
  try {
    exported = evaluate(code);
  } catch (error) {
    // Module-scope code may need a running workflow (`uuid4()`): not a fault that can be judged here.
    if (describeError(error).includes("outside of a Workflow") || nameOf(error) === "IllegalStateError") {
      return { problems: [], unverified: describeError(error), functions: [] };
    }
    return { problems: [`workflows cannot be loaded: ${describeError(error)}`], functions: [] };
  }
  const modules = Object(exported[MODULES_EXPORT]);
  return {
    problems: expected.flatMap(({ name, module }) => {
      const found = exported[name];
      if (typeof found === "function") return [];
      // A bundle of one module exports what that does.
      return [`workflow "${name}": ${module} ${whatIsWrong(found, Object(modules[module] ?? exported))}`];
    }),
    functions: functionsIn(exported),
  };
}

function evaluate(code: string): Record<string, unknown> {
  const context = createContext({
    ...{ AsyncLocalStorage, URL, URLSearchParams, TextEncoder, TextDecoder, AbortController, assert, console: silent },
    __webpack_module_cache__: {},
  });
  new Script(code, { filename: "workflow-bundle.js" }).runInContext(context, { timeout: 10_000 });
  return Object(context["__TEMPORAL__"]).importWorkflows();
}

/** stdout carries the answer. */
const silent = new Proxy({}, { get: () => () => {} });

function nameOf(error: unknown): unknown {
  return Object(error).name;
}

function whatIsWrong(found: unknown, namespace: Record<string, unknown>): string {
  if (found !== undefined) return `exports a ${typeof found} under this name, not a function`;
  const values = { ...Object(namespace["default"]), ...namespace };
  const functions = functionsIn(values);
  return `exports no such function; it exports ${functions.length === 0 ? "none" : functions.join(", ")}`;
}

function functionsIn(values: Record<string, unknown>): string[] {
  return Object.keys(values).filter((name) => typeof values[name] === "function" && !isReservedExport(name));
}
