import { readdirSync, statSync } from "node:fs";
import { join } from "node:path";

/** What is kept below the cache directory can be made again: what nobody used for so long is in the way. */
const KEEP_MS = 30 * 24 * 3600 * 1000;

/** Paths of what lies in a directory and was last changed, or marked as used, more than 30 days ago. */
export function unusedFiles(directory: string): string[] {
  return readdirSync(directory).map((name) => join(directory, name)).filter((path) => {
    const changedAt = statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? Date.now();
    return Date.now() - changedAt > KEEP_MS;
  });
}
