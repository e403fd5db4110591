import { pathToFileURL } from "node:url";
import { describeError } from "./exit.ts";
import { shareTemporalPackages } from "./share-temporal-packages.ts";

/** What a module exports, by name; `failure`: why it cannot be loaded and what to do. */
export type Exports = { values: Map<string, unknown> } | { failure: string };

/** Loads a module of activities. A CommonJS module's exports are found on its `default` where Node cannot see them. */
export async function importActivities(file: string): Promise<Exports> {
  shareTemporalPackages();
  try {
    const namespace: Record<string, unknown> = await import(pathToFileURL(file).href);
    const fallback = namespace["default"];
    return { values: new Map([...Object.entries(Object(fallback)), ...Object.entries(namespace)]) };
  } catch (error) {
    return { failure: `${describeError(error)}${hintFor(error)}` };
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
