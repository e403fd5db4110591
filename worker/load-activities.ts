import type { Manifest } from "../supabase/functions/_shared/manifest.ts";
import { optionsOfActivity } from "../supabase/functions/_shared/service-options.ts";
import type { ModuleFile } from "./code-root.ts";
import { importActivities } from "./import-activities.ts";
import { inspectActivities } from "./inspect-code.ts";
import { createHttpActivity } from "./service/activities.ts";
import type { Caller } from "./service/post-activity.ts";

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
  // What was pushed is one file, with a map to those that it was made of.
  if (module.kind === "pushed") process.setSourceMapsEnabled(true);
  const exported = await importActivities(module.file);
  if ("failure" in exported) return { activities: {}, problems: [cannotLoad(module, exported.failure)] };
  const { values } = exported;
  const types = new Map([...values].map(([name, value]) => [name, typeof value]));
  return {
    activities: Object.fromEntries([...names].map((name) => [name, values.get(name)])),
    problems: wrongNames(module, names, types),
  };
}

/**
 * Whether the service's own activities could be loaded, without loading them here.
 *
 * @param exported names that pushed code is known to export, though its module cannot be loaded without the environment that it has
 *   where it runs
 */
export async function checkOwnActivities(
  module: ModuleFile,
  names: Iterable<string>,
  exported: readonly string[] | undefined,
): Promise<{ problems: string[]; unverified?: string }> {
  const inspected = await inspectActivities(module);
  if ("types" in inspected) return { problems: wrongNames(module, names, inspected.types) };
  if ("problem" in inspected) return { problems: [cannotLoad(module, inspected.problem)] };
  const reason = cannotLoad(module, inspected.failure);
  if (exported === undefined) return { problems: [reason] };
  const types = new Map(exported.map((name) => [name, "function"]));
  return { problems: wrongNames(module, names, types), unverified: reason };
}

function cannotLoad(module: ModuleFile, reason: string): string {
  return `activities_path: ${module.name} cannot be loaded: ${reason}`;
}

/** @param types the `typeof` of each export */
function wrongNames(module: ModuleFile, names: Iterable<string>, types: Map<string, string>): string[] {
  return [...names].filter((name) => types.get(name) !== "function").map((name) =>
    `activity "${name}": ${module.name} ${whatIsWrong(types.get(name), types)}`
  );
}

function whatIsWrong(found: string | undefined, types: Map<string, string>): string {
  if (found !== undefined && found !== "undefined") return `exports a ${found} under this name, not a function`;
  const functions = [...types].filter(([, type]) => type === "function").map(([name]) => name);
  return `exports no such function; it exports ${functions.length === 0 ? "none" : functions.join(", ")}`;
}
