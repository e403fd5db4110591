import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { basename, isAbsolute, join, relative, resolve, sep } from "node:path";
import { fileURLToPath } from "node:url";
import { z } from "zod";
import { type BundleCache, openBundleCache } from "./bundle-cache.ts";
import type { BundleAnswer } from "./bundle-child.ts";
import { EXIT_CODES, WorkerExitError } from "./exit.ts";
import { runBundleChild } from "./run-bundle-child.ts";
import { builtInEntry, PROBE_FILE, workflowEntry, type WorkflowExport } from "./workflow-entry.ts";

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
  const texts = [BUILT_IN_WORKFLOWS, PROBE_FILE].map((file) => readFileSync(file, "utf8"));
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
  const expected = exported.map(({ name, module }) => ({ name, module: module.name }));
  return await build(cache, workflowEntry(exported), expected, (answer) => {
    const inputs = inputsOf(answer, codeRoot);
    if (answer.unverified === undefined && answer.problems.length === 0) {
      cache.write(JSON.stringify(inputs), `${requestKey}.json`);
    }
    return bundleName(requestKey, inputs);
  });
}

type Expected = { name: string; module: string }[];

async function build(
  cache: BundleCache,
  entry: string,
  expected: Expected,
  nameOf: (answer: BundleAnswer) => string,
): Promise<WorkflowBundle> {
  return await cache.buildIn(async (directory) => {
    const outputFile = join(directory, "bundle.js");
    const answer = await runBundleChild(directory, { entry, outputFile, expected });
    const isOwn = (file: string) => !file.startsWith(directory + sep);
    const own = { ...answer, dependencies: answer.dependencies.filter(isOwn), missing: answer.missing.filter(isOwn) };
    const { problems, unverified } = answer;
    const path = problems.length === 0 ? cache.keep(outputFile, nameOf(own)) : "";
    return { path, problems, unverified };
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
  const { version } = z.object({ version: z.string() }).parse(
    createRequire(import.meta.url)("@temporalio/worker/package.json"),
  );
  return `bundle 2, sdk ${version}, node ${process.versions.node.split(".")[0]}`;
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
