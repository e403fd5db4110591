import { randomUUID } from "node:crypto";
import { mkdir, readFile, rename, rm, utimes, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { unusedFiles } from "../host/unused-files.ts";
import { type BundledFile, bundleWorkerOnce } from "./bundle-worker.ts";

/**
 * The path of the bundled worker, which starts quicker than its sources: a worker's `OSP_WORKER_PROGRAM` names it (worker/launch-worker.ts).
 * Its files lie below the cache directory, are named by what is in them, and written again where that is not there.
 */
export async function keepWorkerProgram(cacheDirectory: string): Promise<string> {
  // Of what the deployer is made of, whatever is installed meanwhile.
  const { program, thread } = await bundleWorkerOnce("here");
  const directory = resolve(cacheDirectory, "worker-programs");
  await mkdir(directory, { recursive: true });
  // What the program looks for beside itself before the program.
  const areWritten = [await keep(directory, thread), await keep(directory, program)];
  // Of earlier versions, or unfinished. What cannot be removed is left.
  if (areWritten.includes(true)) await Promise.allSettled(unusedFiles(directory).map((unused) => rm(unused)));
  return join(directory, program.name);
}

/** True: it was not there. */
async function keep(directory: string, { name, contents }: BundledFile): Promise<boolean> {
  const path = join(directory, name);
  // Looked at, not only for: a machine that lost its power may have left an empty file.
  if ((await readFile(path).catch(() => undefined))?.equals(contents)) {
    await utimes(path, new Date(), new Date()).catch(() => {}); // another user's is as good
    return false;
  }
  const unfinished = join(directory, `${randomUUID()}.tmp`);
  await writeFile(unfinished, contents);
  await rename(unfinished, path);
  return true;
}
