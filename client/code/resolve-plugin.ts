import { builtinModules } from "node:module";
import type { Plugin } from "esbuild";

/** What the worker brings: one copy each, shared by the SDK and the code. */
const WORKER_PACKAGES = ["activity", "client", "common", "envconfig", "nexus", "proto", "workflow"];
/** Of these, what workflows may import. */
const WORKFLOW_PACKAGES = ["common", "nexus", "workflow"];

/** What Temporal's sandbox has of Node, in the words of the SDK's own `module-overrides`. */
const SANDBOX_MODULES: Record<string, string> = {
  assert: "module.exports = globalThis.assert;",
  url: "module.exports = { URL, URLSearchParams };",
  util: "module.exports = { TextEncoder, TextDecoder };",
};

/** Decides what is left outside of a bundle, and what has no place in it. */
export function resolvePlugin(kind: "workflows" | "activities", ignoreModules: readonly string[]): Plugin {
  return {
    name: "osp",
    setup(build) {
      // Relative paths are the bundler's own matter.
      build.onResolve({ filter: /^[^./]/ }, ({ path, kind: how, namespace }) => {
        if (namespace === "osp-again") return { path, external: true };
        if (ignoreModules.some((ignored) => path === ignored || path.startsWith(`${ignored}/`))) {
          return { path, namespace: "osp-ignored" };
        }
        const ours = /^@temporalio\/([^/]+)/.exec(path)?.[1];
        if (ours !== undefined) return resolveTemporal(path, ours, kind, how === "require-call");
        const builtIn = path.replace(/^node:/, "");
        if (!builtinModules.includes(builtIn)) return undefined;
        if (kind === "activities") return { path, external: true };
        if (builtIn in SANDBOX_MODULES) return { path: builtIn, namespace: "osp-sandbox" };
        return {
          errors: [{ text: `imports ${path}, which workflows cannot use: move what needs it into an activity` }],
        };
      });
      build.onLoad({ filter: /.*/, namespace: "osp-ignored" }, ({ path }) => ({ contents: ignoredModule(path) }));
      build.onLoad(
        { filter: /.*/, namespace: "osp-sandbox" },
        ({ path }) => ({ contents: SANDBOX_MODULES[path] ?? "" }),
      );
      build.onLoad({ filter: /.*/, namespace: "osp-again" }, ({ path }) => ({
        contents: `export * from ${JSON.stringify(path)};`,
      }));
    },
  };
}

function resolveTemporal(path: string, name: string, kind: "workflows" | "activities", isRequired: boolean) {
  if (kind === "activities") {
    if (WORKER_PACKAGES.includes(name)) return { path, external: true };
    return {
      errors: [{
        text: `imports ${path}, which no worker has: there are ${
          WORKER_PACKAGES.map((one) => `@temporalio/${one}`).join(", ")
        }`,
      }],
    };
  }
  if (WORKFLOW_PACKAGES.includes(name)) {
    // A bundle of ES modules has no require of its own.
    return isRequired ? { path, namespace: "osp-again" } : { path, external: true };
  }
  // Packages such as interceptors are bundled like any other.
  if (!WORKER_PACKAGES.includes(name) && name !== "worker" && name !== "testing" && name !== "core-bridge") {
    return undefined;
  }
  return {
    errors: [{ text: `imports ${path}, which workflows cannot use: of activities, import types only ("import type")` }],
  };
}

function ignoredModule(path: string): string {
  const message = `Cannot find module '${path}': osp.ignoreModules of package.json left it out`;
  return `throw Object.assign(new Error(${JSON.stringify(message)}), { code: "MODULE_NOT_FOUND" });`;
}
