import { join } from "node:path";
import { cacheDirectory } from "./cache-directory.ts";

/**
 * Variables that Node itself reads before a worker's first line; worker/Dockerfile has the same.
 *
 * V8 lets the young generation of each of the two threads grow to 32 MB, of which a worker's garbage fills little: with 4 MB semi-spaces
 * an idle worker held 182 MB for 205 (measured, Node 24.21), at the same rate of workflows. Compiled modules, read from the cache, spare
 * another 25 MB: Node need not load what strips their types.
 */
export function workerProcessSettings(environment: NodeJS.ProcessEnv): Record<string, string> {
  return {
    NODE_OPTIONS: "--max-semi-space-size=4",
    NODE_COMPILE_CACHE: join(cacheDirectory(environment), "compile-cache"),
  };
}
