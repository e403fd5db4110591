import { createHash, randomUUID } from "node:crypto";
import { mkdir, readFile, rename, rm, utimes, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { unusedFiles } from "../host/unused-files.ts";
import { bundleWorker } from "./bundle-worker.ts";

/**
 * The path of the worker in one file, which starts quicker than its sources: a worker's `OSP_WORKER_PROGRAM` names it (worker/launch-worker.ts).
 * It lies below the cache directory, is named by what is in it, and written again where that is not there.
 */
export async function keepWorkerProgram(cacheDirectory: string): Promise<string> {
  const contents = await bundleOnce();
  const directory = resolve(cacheDirectory, "worker-programs");
  const path = join(directory, `${createHash("sha256").update(contents).digest("hex")}.cjs`);
  // Looked at, not only for: a machine that lost its power may have left an empty file.
  if ((await readFile(path).catch(() => undefined))?.equals(contents)) {
    await utimes(path, new Date(), new Date()).catch(() => {}); // another user's is as good
    return path;
  }
  await mkdir(directory, { recursive: true });
  const unfinished = join(directory, `${randomUUID()}.tmp`);
  await writeFile(unfinished, contents);
  await rename(unfinished, path);
  // Of earlier versions, or unfinished. What cannot be removed is left.
  await Promise.allSettled(unusedFiles(directory).map((unused) => rm(unused)));
  return path;
}

let made: Promise<Uint8Array> | undefined;

/** Our sources do not change while we run: a worker is started from what its deployer was started from. */
async function bundleOnce(): Promise<Uint8Array> {
  try {
    return await (made ??= bundleWorker("here"));
  } catch (error) {
    made = undefined;
    throw error;
  }
}
