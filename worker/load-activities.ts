import { pathToFileURL } from "node:url";
import type { Manifest } from "../supabase/functions/_shared/manifest.ts";
import { optionsOfActivity } from "../supabase/functions/_shared/service-options.ts";
import type { ModuleFile } from "./code-root.ts";
import { describeError } from "./exit.ts";
import { createHttpActivity } from "./service/activities.ts";
import type { Caller } from "./service/post-activity.ts";
import { shareTemporalPackages } from "./share-temporal-packages.ts";

/** Activities by name, as a Temporal Worker takes them. */
export type Activities = Record<string, unknown>;

export interface LoadedActivities {
  activities: Activities;
  problems: string[];
}

/**
 * The built-in activities. `default` takes every other name: a workflow that began under an earlier revision may call
 * activities that this manifest no longer names.
 */
export function createHttpActivities(manifest: Manifest, names: Iterable<string>, caller: Caller): LoadedActivities {
  const post = createHttpActivity(manifest, caller);
  const unposted = [...names].filter((name) => optionsOfActivity(manifest.options, name).endpoint === undefined);
  const problems = unposted.length === 0
    ? []
    : [`options.activity_endpoint: missing; ${manifest.activities_path} posts ${unposted.join(", ")} to it`];
  return { activities: Object.fromEntries([...names, "default"].map((name) => [name, post])), problems };
}

/**
 * The service's own activities, by the manifest's names only: everything else that the module exports, a `default` or
 * a class, would be callable too.
 */
export async function loadOwnActivities(module: ModuleFile, names: Iterable<string>): Promise<LoadedActivities> {
  const exported = await importExports(module);
  if ("problem" in exported) return { activities: {}, problems: [exported.problem] };
  const found = new Map<string, unknown>();
  const problems: string[] = [];
  for (const name of names) {
    const value = exported.values.get(name);
    if (typeof value === "function") found.set(name, value);
    else problems.push(`activity "${name}": ${module.name} ${whatIsWrong(value, exported.values)}`);
  }
  return { activities: Object.fromEntries(found), problems };
}

/** By name; a CommonJS module's exports are found on its `default` where Node cannot see them. */
async function importExports(module: ModuleFile): Promise<{ values: Map<string, unknown> } | { problem: string }> {
  shareTemporalPackages();
  try {
    const namespace: Record<string, unknown> = await import(pathToFileURL(module.file).href);
    const fallback = namespace["default"];
    return { values: new Map([...Object.entries(Object(fallback)), ...Object.entries(namespace)]) };
  } catch (error) {
    return { problem: `activities_path: ${module.name} cannot be loaded: ${describeError(error)}${hintFor(error)}` };
  }
}

function hintFor(error: unknown): string {
  const code = error instanceof Error && "code" in error ? error.code : undefined;
  if (code === "ERR_UNSUPPORTED_TYPESCRIPT_SYNTAX") {
    return ". Node runs only erasable TypeScript: compile it to JavaScript";
  }
  if (code === "ERR_MODULE_NOT_FOUND") return ". Ship what it imports along with it";
  return "";
}

function whatIsWrong(found: unknown, values: Map<string, unknown>): string {
  if (found !== undefined) return `exports a ${typeof found} under this name, not a function`;
  const functions = [...values].filter(([, value]) => typeof value === "function").map(([name]) => name);
  return `exports no such function; it exports ${functions.length === 0 ? "none" : functions.join(", ")}`;
}
