import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createHash } from "node:crypto";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { z } from "zod";
import { checkCodeRoot } from "../../host/check-code-root.ts";
import { packArchive } from "../../host/code-archive.ts";
import { runIsolated } from "../../host/isolated-node.ts";
import { buildManifest, SpecRejectedError } from "../../supabase/functions/_shared/build-manifest.ts";
import { canonicalJson } from "../../supabase/functions/_shared/canonical-json.ts";
import { manifestPath } from "../../supabase/functions/_shared/manifest.ts";
import {
  BUNDLE_VERSION,
  CODE_DIRECTORY,
  CODE_FILES,
  CODE_LIMITS,
  type CodeDescription,
} from "../../supabase/functions/_shared/service-code.ts";
import { InvalidCodeError } from "../errors.ts";
import { type BundleAnswer, bundleSources } from "./bundle-sources.ts";
import { checkPackages } from "./check-packages.ts";
import type { ServiceSources } from "./service-sources.ts";
import { typeCheck } from "./type-check.ts";

/** A service's row as far as its code must fit it. */
export interface RowToFit {
  service_schema: string;
  service_name: string;
  workflows: unknown;
  options: object;
}

export interface BuiltCode {
  archive: Buffer;
  /** SHA-256 of the archive: what `options.code` names. */
  code: string;
  /** Functions that each module exports; undefined: there is no such module. */
  workflows: string[] | undefined;
  activities: string[] | undefined;
  /** What may be wrong, and can only be known where it runs. */
  notes: string[];
}

export interface BuildSettings {
  /** Undefined: there is none yet, so no names are compared. */
  row: RowToFit | undefined;
  cacheDirectory: string;
  signal: AbortSignal | undefined;
}

/**
 * Makes a service's sources into the archive that is stored: the same sources, packages and version of ours give the same bytes.
 *
 * @throws {InvalidCodeError} listing every problem: of types, of what cannot be bundled or loaded, of names that the row gives
 */
export async function buildCode(sources: ServiceSources, settings: BuildSettings): Promise<BuiltCode> {
  const scratch = await mkdtemp(join(tmpdir(), "osp-code-"));
  try {
    const codeRoot = join(scratch, "root");
    await mkdir(join(codeRoot, CODE_DIRECTORY), { recursive: true });
    return await buildIn(codeRoot, scratch, sources, settings);
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}

async function buildIn(
  codeRoot: string,
  scratch: string,
  sources: ServiceSources,
  { row, cacheDirectory, signal }: BuildSettings,
): Promise<BuiltCode> {
  const directory = join(codeRoot, CODE_DIRECTORY);
  const [types, workflows, activities] = await Promise.all([
    typeCheck(sources, scratch, signal),
    bundle("workflows", sources, directory, signal),
    bundle("activities", sources, directory, signal),
  ]);
  const unbundled = [...(workflows?.problems ?? []), ...(activities?.problems ?? [])];
  const problems = [...checkPackages(sources.directory), ...types, ...unbundled];
  const isBundled = unbundled.length === 0;
  // What was bundled can be looked at, whatever its types are like: every problem is to stand in one message.
  const loaded = isBundled ? await loadBundles(directory, signal) : undefined;
  problems.push(...(loaded?.problems ?? []));
  if (loaded !== undefined && loaded.problems.length === 0) {
    await describe(directory, {
      format: 1,
      sdk_version: loaded.sdk_version,
      bundle_version: BUNDLE_VERSION,
      ...exportedBy(workflows, activities),
    });
    if (row !== undefined) problems.push(...await fitRow(row, codeRoot, cacheDirectory, signal));
  }
  if (problems.length > 0 || loaded === undefined) {
    throw new InvalidCodeError(`Cannot push the code in ${sources.directory}`, problems);
  }
  const archive = await pack(directory, [...(workflows?.largest ?? []), ...(activities?.largest ?? [])]);
  return {
    archive,
    code: createHash("sha256").update(archive).digest("hex"),
    workflows: workflows && (loaded.workflows ?? workflows.exported),
    activities: activities && (loaded.activities ?? activities.exported),
    notes: [...(workflows?.notes ?? []), ...(activities?.notes ?? []), ...loaded.unverified],
  };
}

async function bundle(
  kind: "workflows" | "activities",
  { directory, ignoreModules, ...modules }: ServiceSources,
  target: string,
  signal: AbortSignal | undefined,
): Promise<BundleAnswer | undefined> {
  const file = modules[kind];
  if (file === undefined) return undefined;
  const outputFile = join(target, CODE_FILES[kind]);
  return await bundleSources({ directory, kind, file, ignoreModules, outputFile }, signal);
}

function exportedBy(workflows: BundleAnswer | undefined, activities: BundleAnswer | undefined) {
  return {
    ...(workflows === undefined ? {} : { workflows: workflows.exported.toSorted() }),
    ...(activities === undefined ? {} : { activities: activities.exported.toSorted() }),
  };
}

async function describe(directory: string, description: CodeDescription): Promise<void> {
  await writeFile(join(directory, CODE_FILES.description), canonicalJson(description));
}

const BUNDLE_CODE = fileURLToPath(new URL("../../worker/bundle-code.ts", import.meta.url));
const LOAD_MS = 240_000;
const loadedSchema = z.object({
  sdk_version: z.string(),
  problems: z.array(z.string()),
  unverified: z.array(z.string()),
  workflows: z.array(z.string()).optional(),
  activities: z.array(z.string()).optional(),
});

/** Temporal's own bundle of the workflows, and what both modules export when they are loaded as a worker does it. */
async function loadBundles(
  directory: string,
  signal: AbortSignal | undefined,
): Promise<z.infer<typeof loadedSchema>> {
  const end = await runIsolated({
    script: BUNDLE_CODE,
    args: [directory],
    timeoutMs: LOAD_MS,
    ...(signal === undefined ? {} : { signal }),
  });
  if (end.code === 0) return loadedSchema.parse(JSON.parse(end.stdout));
  const how = end.isLate ? `is not done after ${LOAD_MS / 1000} s` : `ends with ${end.signal ?? end.code}`;
  throw new Error(`Cannot bundle the code for Temporal: worker/bundle-code.ts ${how}: ${end.stderr.slice(-2000)}`);
}

/** For a row that leaves the endpoint of its activities to the project, which only the Edge Function knows. */
const SOME_ENDPOINT = "https://endpoint.invalid/{activity}";
/** Any will do: where the code lies is what counts. */
const SOME_CODE = "0".repeat(64);

/** Compares the row's names with the code, as the deployer will do before it deploys: by `worker --check`. */
async function fitRow(
  row: RowToFit,
  codeRoot: string,
  cacheDirectory: string,
  signal: AbortSignal | undefined,
): Promise<string[]> {
  const spec = { ...row, options: { ...row.options, code: SOME_CODE } };
  const path = manifestPath(row.service_schema);
  try {
    const { json } = await buildManifest(spec, 1, { activityEndpoint: SOME_ENDPOINT });
    await mkdir(join(codeRoot, path, ".."), { recursive: true });
    await writeFile(join(codeRoot, path), json);
  } catch (error) {
    if (error instanceof SpecRejectedError) return [error.message];
    throw error;
  }
  const verdict = await checkCodeRoot({
    codeRoot,
    manifestPath: path,
    cacheDirectory,
    ...(signal === undefined ? {} : { signal }),
  });
  if (verdict.code === 0) return [];
  return verdict.problems ?? [`worker --check ends with ${verdict.code}: ${verdict.output.slice(-2000)}`];
}

/** @throws {InvalidCodeError} when it is too large */
async function pack(directory: string, largest: string[]): Promise<Buffer> {
  const files = new Map<string, Buffer>();
  for (const name of Object.values(CODE_FILES)) {
    const content = await readFile(join(directory, name)).catch(() => undefined);
    if (content !== undefined) files.set(name, content);
  }
  const archive = packArchive(files);
  const unpacked = [...files.values()].reduce((sum, { length }) => sum + length, 0);
  // Room for what the archive itself adds.
  if (unpacked > CODE_LIMITS.unpackedBytes - 64 * 1024 || archive.length > CODE_LIMITS.archiveBytes) {
    throw new InvalidCodeError(`Cannot push the code`, [
      `it has ${megabytes(unpacked)}, ${megabytes(archive.length)} packed; there may be ` +
      `${megabytes(CODE_LIMITS.unpackedBytes)}, ${megabytes(CODE_LIMITS.archiveBytes)} packed. Its largest parts: ` +
      largest.join(", "),
    ]);
  }
  return archive;
}

function megabytes(bytes: number): string {
  return `${(bytes / (1024 * 1024)).toFixed(1)} MiB`;
}
