import { chmod, copyFile, lstat, mkdir, readdir, stat, utimes, writeFile } from "node:fs/promises";
import { dirname, join, sep } from "node:path";
import { fileURLToPath } from "node:url";
import { formatError } from "../../../supabase/functions/_shared/problems.ts";
import { type BundledFile, bundleWorkerOnce } from "../../bundle-worker.ts";
import { type Scratch, type ScratchDirectory, scratchError } from "../../scratch.ts";
import { PlatformError } from "../platform.ts";

const PROJECT = fileURLToPath(new URL("../../../", import.meta.url));
/** What the image is built from besides the code root: where it goes, and where it comes from. */
const files = [
  ["Dockerfile", "worker/Dockerfile"],
  ["package.json", "worker/image/package.json"],
  ["package-lock.json", "worker/image/package-lock.json"],
] as const;
/** Of these, sources alone: an editor's copies and a person's notes are nobody's business. */
const directories = ["worker", "host", "supabase/functions/_shared"];
const isSource = (name: string) => /^[a-z][a-z0-9-]*\.ts$/.test(name);

/** Nobody needs to know when; and the same files give the same archive. */
const AT = new Date("2000-01-01T00:00:00Z");
/** `railway up` leaves out every path with such a part, the directory's own path included. */
const skipped = ["node_modules", ".git"];
/** It also heeds ignore files of the directories above, which may be anybody's: this one counts before them. */
const IGNORE = ".railwayignore";
const IGNORE_NOTHING = "!*\n";

/**
 * A fresh directory with all that the worker's image is built from: the Dockerfile, the worker as sources and bundled,
 * its lock file, and the code root with its manifest. The same code root gives the same files, bytes, modes and times,
 * whatever machine they come from.
 *
 * @throws {PlatformError}
 */
export async function stageImage(codeRoot: string, scratch: Scratch): Promise<ScratchDirectory> {
  const directory = await scratch.directory("image");
  try {
    const { path } = directory;
    const place = path.split(sep).find((part) => skipped.includes(part));
    if (place !== undefined) {
      const message = `Cannot stage the upload in ${path}: railway up leaves out what lies below ${place}. ` +
        "Set TMPDIR for the deployer to another directory";
      throw new PlatformError("unavailable", "upload_directory_skipped", message);
    }
    const sources = await sourcesOfWorker();
    const bundled = await bundle(sources);
    const taken = new Set([...sources.keys(), ...bundled.map(({ name }) => name), IGNORE]);
    const own = await filesOfService(codeRoot, taken);
    const all = [...sources, ...own].toSorted(([one], [other]) => (one < other ? -1 : 1));
    for (const [target, source] of all) await copy(source, join(path, target));
    for (const { name, contents } of bundled) await writeFile(join(path, name), contents, { mode: 0o644 });
    await writeFile(join(path, IGNORE), IGNORE_NOTHING, { mode: 0o644 });
    await fixTimes(path);
    return directory;
  } catch (error) {
    await directory.remove().catch(() => {});
    throw scratchError(error);
  }
}

/** What the image starts, of the sources as they are: an update under a running deployer changes them. */
async function bundle(sources: Map<string, string>): Promise<BundledFile[]> {
  const states = await Promise.all([...sources.values()].map(async (path) => {
    const { mtimeMs, size } = await stat(path);
    return [path, mtimeMs, size];
  }));
  try {
    const { program, thread } = await bundleWorkerOnce("copy", JSON.stringify(states));
    return [program, thread].map(({ name, contents }) => ({ name: join("worker", name), contents }));
  } catch (error) {
    const message = `Cannot bundle the worker: ${formatError(error)}. Are the deployer's packages whole (npm ci)?`;
    throw new PlatformError("unavailable", "worker_not_bundled", message, {}, { cause: error });
  }
}

/** Each of the worker's files by its place in the upload. */
async function sourcesOfWorker(): Promise<Map<string, string>> {
  const sources = new Map<string, string>(files.map(([target, source]) => [target, join(PROJECT, source)]));
  for (const directory of directories) {
    for (const file of await sourcesBelow(join(PROJECT, directory))) {
      sources.set(join(directory, file), join(PROJECT, directory, file));
    }
  }
  return sources;
}

/** @param taken places of the image's own files */
async function filesOfService(codeRoot: string, taken: ReadonlySet<string>): Promise<[string, string][]> {
  const found = await filesBelow(codeRoot);
  const conflict = found.find((file) => taken.has(file));
  if (conflict !== undefined) {
    const message =
      `The service's own code has a file ${conflict}, where the worker's image has one of its own: move it`;
    throw new PlatformError("permanent", "upload_conflict", message);
  }
  return found.map((file) => [file, join(codeRoot, file)]);
}

async function sourcesBelow(root: string): Promise<string[]> {
  const entries = await readdir(root, { recursive: true, withFileTypes: true });
  return entries.filter((entry) => entry.isFile() && isSource(entry.name))
    .map((entry) => join(entry.parentPath, entry.name).slice(root.length + 1));
}

/** The files of a code root. Links are refused: they may lead anywhere. */
async function filesBelow(root: string): Promise<string[]> {
  if (!(await lstat(root)).isDirectory()) throw unreadable(root);
  const entries = await readdir(root, { recursive: true, withFileTypes: true });
  return entries.filter((entry) => !entry.isDirectory()).map((entry) => {
    const path = join(entry.parentPath, entry.name);
    if (entry.isFile()) return path.slice(root.length + 1);
    throw unreadable(path);
  });
}

function unreadable(path: string): PlatformError {
  return new PlatformError("permanent", "upload_unreadable", `Cannot upload ${path}: it is no regular file`);
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
  await chmod(directory, 0o755);
  await utimes(directory, AT, AT);
}
