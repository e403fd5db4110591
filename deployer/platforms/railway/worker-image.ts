import { chmod, copyFile, lstat, mkdir, mkdtemp, readdir, rm, utimes } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join, sep } from "node:path";
import { fileURLToPath } from "node:url";
import { formatError } from "../../../supabase/functions/_shared/problems.ts";
import { PlatformError } from "../platform.ts";

const PROJECT = fileURLToPath(new URL("../../../", import.meta.url));
/** What the image is built from besides the code root: where it goes, and where it comes from. */
const image = [
  ["Dockerfile", "worker/Dockerfile"],
  ["package.json", "worker/image/package.json"],
  ["package-lock.json", "worker/image/package-lock.json"],
  ["worker", "worker"],
  ["host", "host"],
  ["supabase/functions/_shared", "supabase/functions/_shared"],
] as const;

/** Nobody needs to know when; and the same files give the same archive. */
const AT = new Date("2000-01-01T00:00:00Z");
/** `railway up` leaves out every path with such a part, the directory's own path included. */
const skipped = ["node_modules", ".git"];

export interface StagedImage {
  directory: string;
  remove(): Promise<void>;
}

/**
 * A fresh directory with all that the worker's image is built from: the Dockerfile, the worker, its lock file, and the code
 * root with its manifest. The same code root gives the same files, bytes, modes and times, whatever machine they come from.
 *
 * @throws {PlatformError}
 */
export async function stageImage(codeRoot: string): Promise<StagedImage> {
  const directory = await mkdtemp(join(tmpdir(), "osp-image-")).catch((error: unknown) => {
    throw stagingError(error);
  });
  const remove = () => rm(directory, { recursive: true, force: true });
  try {
    const place = directory.split(sep).find((part) => skipped.includes(part));
    if (place !== undefined) {
      const message = `Cannot stage the upload in ${directory}: railway up leaves out what lies below ${place}. ` +
        "Set TMPDIR for the deployer to another directory";
      throw new PlatformError("permanent", "upload_directory_skipped", message);
    }
    for (const [target, source] of await filesToCopy(codeRoot)) await copy(source, join(directory, target));
    await fixTimes(directory);
    return { directory, remove };
  } catch (error) {
    await remove().catch(() => {});
    throw error instanceof PlatformError ? error : stagingError(error);
  }
}

function stagingError(error: unknown): PlatformError {
  const message = `Cannot stage the upload below ${tmpdir()}: ${formatError(error)}. Is its disk full?`;
  return new PlatformError("unavailable", "staging_failed", message, {}, { cause: error });
}

/** Each file by its place in the upload, sorted. */
async function filesToCopy(codeRoot: string): Promise<[string, string][]> {
  const files = new Map<string, string>();
  for (const [target, source] of image) {
    for (const file of await filesBelow(join(PROJECT, source))) {
      files.set(join(target, file), join(PROJECT, source, file));
    }
  }
  files.delete(join("worker", "Dockerfile"));
  for (const file of [...files.keys()].filter((path) => path.startsWith(join("worker", "image")))) files.delete(file);
  for (const file of await filesBelow(codeRoot)) {
    if (files.has(file)) {
      const message = `The service's own code has a file ${file}, where the worker's image has one of its own: move it`;
      throw new PlatformError("permanent", "upload_conflict", message);
    }
    files.set(file, join(codeRoot, file));
  }
  return [...files].toSorted(([one], [other]) => (one < other ? -1 : 1));
}

/** The files below a directory, relative to it; of a file only itself, as "". Links are refused: they may lead anywhere. */
async function filesBelow(root: string): Promise<string[]> {
  if ((await lstat(root)).isFile()) return [""];
  const entries = await readdir(root, { recursive: true, withFileTypes: true });
  return entries.filter((entry) => !entry.isDirectory()).map((entry) => {
    const path = join(entry.parentPath, entry.name);
    if (entry.isFile()) return path.slice(root.length).replace(/^[/\\]/, "");
    throw new PlatformError("permanent", "upload_unreadable", `Cannot upload ${path}: it is no regular file`);
  });
}

async function copy(source: string, target: string): Promise<void> {
  await mkdir(dirname(target), { recursive: true });
  await copyFile(source, target);
  await chmod(target, 0o644);
}

/** Last, for writing a file changes its directory's time. */
async function fixTimes(directory: string): Promise<void> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true });
  for (const entry of entries) {
    const path = join(entry.parentPath, entry.name);
    if (entry.isDirectory()) await chmod(path, 0o755);
    await utimes(path, AT, AT);
  }
  await utimes(directory, AT, AT);
}
