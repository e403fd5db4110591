import { createHash } from "node:crypto";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { basename, isAbsolute, join, relative, resolve, sep } from "node:path";
import { fileURLToPath } from "node:url";
import { z } from "zod";
import {
  BUNDLE_VERSION,
  CODE_FILES,
  CODE_WORKFLOWS_PATH,
  PROBE_WORKFLOW,
} from "../supabase/functions/_shared/service-code.ts";
import { type BundleCache, openBundleCache } from "./bundle-cache.ts";
import { EXIT_CODES, WorkerExitError } from "./exit.ts";
import { inspectWorkflows } from "./inspect-code.ts";
import type { PushedCode } from "./pushed-code.ts";
import { type BundleAnswer, runBundleChild } from "./run-bundle-child.ts";
import { sdkVersion } from "./sdk-version.ts";
import { builtInEntry, INTERCEPTORS_FILE, PROBE_FILE, workflowEntry, type WorkflowExport } from "./workflow-entry.ts";

export interface WorkflowBundle {
  path: string;
  problems: string[];
  unverified: string | undefined;
}

const BUILT_IN_WORKFLOWS = fileURLToPath(new URL("./service/workflows.ts", import.meta.url));

/** The built-in workflows, bundled: one file for all services, revisions and copies of the worker on a machine. */
export async function bundleBuiltInWorkflows(cacheDirectory: string): Promise<string> {
  const cache = openBundleCache(cacheDirectory);
  // The files import the SDK and types only, so their text and the SDK's version are all that goes in.
  const texts = [BUILT_IN_WORKFLOWS, PROBE_FILE, INTERCEPTORS_FILE].map((file) => readFileSync(file, "utf8"));
  const name = `${hashOf(["built-in", toolchain(), ...texts])}.js`;
  const found = cache.find(name);
  if (found !== undefined) return found;
  const { path, problems } = await build(cache, builtInEntry(BUILT_IN_WORKFLOWS), [], () => name);
  if (problems.length > 0) throw new WorkerExitError(EXIT_CODES.unusable, problems);
  return path;
}

/**
 * A service's own workflows for one queue, bundled and checked. What a bundle is made of shows only when it is made: its files
 * are listed beside it, and it is used again while all of them are the same (as ccache does).
 */
export async function bundleOwnWorkflows(
  exported: readonly WorkflowExport[],
  codeRoot: string,
  cacheDirectory: string,
): Promise<WorkflowBundle> {
  const cache = openBundleCache(cacheDirectory);
  const files = exported.map(({ name, module }) => [name, relative(codeRoot, module.file)]);
  const requestKey = hashOf(["own", toolchain(), JSON.stringify(files)]);
  const recorded = await readRecorded(cache, requestKey, codeRoot);
  if (recorded !== undefined) return { path: recorded, problems: [], unverified: undefined };
  return await build(cache, workflowEntry(exported), expectedOf(exported), (answer, isVerified) => {
    const inputs = inputsOf(answer, codeRoot);
    if (isVerified) cache.write(JSON.stringify(inputs), `${requestKey}.json`);
    return bundleName(requestKey, inputs);
  });
}

/**
 * The workflows of pushed code, as they were bundled when it was pushed; with another SDK than that they are bundled anew. What
 * was checked once, in the build of an image or before a deployment, is not looked at again.
 */
export async function bundlePushedWorkflows(
  exported: readonly WorkflowExport[],
  pushed: PushedCode,
  cacheDirectory: string,
): Promise<WorkflowBundle> {
  const cache = openBundleCache(cacheDirectory);
  const { path, problems } = await findPushedBundle(pushed, cache);
  if (problems.length > 0) return { path, problems, unverified: undefined };
  const probe = { name: PROBE_WORKFLOW, module: CODE_WORKFLOWS_PATH };
  const expected = [...expectedOf(exported), probe];
  const checked = `${hashOf(["checked", toolchain(), readFileSync(path, "utf8"), JSON.stringify(expected)])}.checked`;
  if (cache.find(checked) !== undefined) return { path, problems: [], unverified: undefined };
  const found = await inspectWorkflows(path, expected, true);
  if (found.problems.length === 0 && found.unverified === undefined) cache.write("checked\n", checked);
  return { path, problems: found.problems, unverified: found.unverified };
}

async function findPushedBundle(
  { directory, description }: PushedCode,
  cache: BundleCache,
): Promise<{ path: string; problems: string[] }> {
  const asPushed = join(directory, CODE_FILES.workflowBundle);
  const isOurs = description.sdk_version === sdkVersion() && description.bundle_version === BUNDLE_VERSION;
  if (isOurs && existsSync(asPushed)) return { path: asPushed, problems: [] };
  const entryFile = join(directory, CODE_FILES.workflows);
  const name = `${
    hashOf(["pushed", toolchain(), ...[entryFile, INTERCEPTORS_FILE].map((file) => readFileSync(file, "utf8"))])
  }.js`;
  const found = cache.find(name);
  if (found !== undefined) return { path: found, problems: [] };
  return await cache.buildIn(async (work) => {
    const outputFile = join(work, "bundle.js");
    const { problems } = await runBundleChild({ entryFile, outputFile, portableFrom: directory });
    return { path: problems.length === 0 ? cache.keep(outputFile, name) : "", problems };
  });
}

type Expected = { name: string; module: string }[];

function expectedOf(exported: readonly WorkflowExport[]): Expected {
  return exported.map(({ name, module }) => ({ name, module: module.name }));
}

async function build(
  cache: BundleCache,
  entry: string,
  expected: Expected,
  nameOf: (answer: BundleAnswer, isVerified: boolean) => string,
): Promise<WorkflowBundle> {
  return await cache.buildIn(async (directory) => {
    // .mjs: whatever package.json lies above it, the entry is a module.
    const entryFile = join(directory, "entry.mjs");
    writeFileSync(entryFile, entry);
    const outputFile = join(directory, "bundle.js");
    const answer = await runBundleChild({ entryFile, outputFile });
    if (answer.problems.length > 0) return { path: "", problems: answer.problems, unverified: undefined };
    const { problems, unverified } = await inspectWorkflows(outputFile, expected, false);
    if (problems.length > 0) return { path: "", problems, unverified };
    const isOwn = (file: string) => !file.startsWith(directory + sep);
    const own = { ...answer, dependencies: answer.dependencies.filter(isOwn), missing: answer.missing.filter(isOwn) };
    return { path: cache.keep(outputFile, nameOf(own, unverified === undefined)), problems, unverified };
  });
}

/** A file's hash, or null where it is good that there is none. Paths in the code root are relative to it. */
const inputsSchema = z.array(z.tuple([z.string(), z.string().nullable()]));
type Inputs = z.infer<typeof inputsSchema>;

function inputsOf({ dependencies, missing }: BundleAnswer, codeRoot: string): Inputs {
  const name = (file: string) => (isInside(codeRoot, file) ? relative(codeRoot, file) : file);
  return [
    // The SDK's own files stand for their version, which the key holds.
    ...dependencies.filter((file) => !file.includes(`${sep}node_modules${sep}@temporalio${sep}`))
      .map((file): Inputs[number] => [name(file), contentHash(file)]),
    ...missing.filter((file) => isInside(codeRoot, file) && !file.includes(`${sep}node_modules${sep}`))
      .map((file): Inputs[number] => [name(file), null]),
  ];
}

/** The bundle that an earlier start made of exactly the files that lie here now. */
async function readRecorded(cache: BundleCache, requestKey: string, codeRoot: string): Promise<string | undefined> {
  const record = cache.find(`${requestKey}.json`);
  if (record === undefined) return undefined;
  const inputs = inputsSchema.parse(JSON.parse(await readFile(record, "utf8")));
  const isSame = inputs.every(([file, hash]) => contentHash(resolve(codeRoot, file)) === hash);
  return isSame ? cache.find(bundleName(requestKey, inputs)) : undefined;
}

function bundleName(requestKey: string, inputs: Inputs): string {
  return `${hashOf([requestKey, JSON.stringify(inputs)])}.js`;
}

/** What turns files into a bundle: a bundle is for the SDK version that made it only. */
function toolchain(): string {
  return `bundle ${BUNDLE_VERSION}, sdk ${sdkVersion()}, node ${process.versions.node.split(".")[0]}`;
}

function contentHash(file: string): string | null {
  try {
    return hashOf([readFileSync(file, "utf8")]);
  } catch {
    return null;
  }
}

function hashOf(parts: string[]): string {
  const hash = createHash("sha256");
  for (const part of parts) hash.update(`${part.length}:`).update(part);
  return hash.digest("hex");
}

function isInside(directory: string, file: string): boolean {
  const path = relative(directory, file);
  return basename(path) !== "" && !path.startsWith("..") && !isAbsolute(path);
}
