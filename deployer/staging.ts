import { mkdir, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { checkCodeRoot } from "../host/check-code-root.ts";
import { canonicalJson } from "../supabase/functions/_shared/canonical-json.ts";
import { isBuiltIn, type Manifest } from "../supabase/functions/_shared/manifest.ts";
import type { CodeSource } from "./code/code-source.ts";
import { unpackCode } from "./code/unpack-code.ts";
import { PlatformError } from "./platforms/platform.ts";
import { workerExitError } from "./platforms/worker-outcome.ts";
import type { ReplayGate } from "./replay/replay-gate.ts";
import { orNoRoom, type Scratch, type ScratchDirectory } from "./scratch.ts";

/** What a deployment is staged with. */
export interface StagingDeps {
  scratch: Scratch;
  code: CodeSource;
  /** What `worker --check` bundles is kept there for workers of this machine. */
  cacheDirectory: string;
  /** What a revision of a service that has, or had, code of its own must pass. */
  gate: ReplayGate;
}

/** One revision. */
export interface ToStage {
  manifestPath: string;
  manifest: Manifest;
  /** The service has, or had, code of its own: its open workflows must be able to go on. */
  isGated: boolean;
}

/** Tells how far staging has come: one line for people. */
type Report = (line: string) => void;

/**
 * A fresh directory with what a worker of this revision runs from: the future code root, its manifest and the service's own code.
 * The same manifest gives the same bytes. All that foreign code takes part in is done by child processes with an empty environment.
 *
 * @throws {PlatformError} permanent where its code cannot work, with every problem; unavailable where something else is away
 * @throws the signal's reason
 */
export async function stageUpload(
  { manifestPath, manifest, isGated }: ToStage,
  deps: StagingDeps,
  report: Report,
  signal: AbortSignal,
): Promise<ScratchDirectory> {
  const { service_schema, options } = manifest;
  const archive = options.code === undefined ? undefined : await deps.code.fetch(service_schema, options.code, signal);
  const directory = await deps.scratch.directory("upload");
  try {
    await orNoRoom(writeManifest(join(directory.path, manifestPath), manifest));
    if (archive !== undefined) await unpackCode(archive, directory.path, signal);
    const bundles = isBuiltIn(manifest)
      ? new Map<string, string>()
      : await check(directory.path, manifestPath, deps, report, signal);
    if (isGated) await deps.gate.check({ manifest, codeRoot: directory.path, bundles }, report, signal);
    return directory;
  } catch (error) {
    await directory.remove().catch(() => {});
    throw error;
  }
}

async function writeManifest(file: string, manifest: Manifest): Promise<void> {
  await mkdir(dirname(file), { recursive: true });
  await writeFile(file, canonicalJson(manifest));
}

/**
 * All that the manifest names must be there before anything is deployed: by the worker's own `--check`.
 *
 * @returns Temporal's bundle of each task queue
 */
async function check(
  codeRoot: string,
  manifestPath: string,
  { cacheDirectory }: StagingDeps,
  report: Report,
  signal: AbortSignal,
): Promise<Map<string, string>> {
  const { code, problems, unverified, bundles, output } = await checkCodeRoot({
    codeRoot,
    manifestPath,
    cacheDirectory,
    signal,
  });
  if (code === 0) {
    for (const reason of unverified) report(`not everything could be checked: ${reason}`);
    return bundles;
  }
  if (code === undefined) {
    const reason = problems?.join("; ") ?? "its process was killed";
    throw new PlatformError("transient", "check_failed", `The service's code could not be checked: ${reason}`, {
      logTail: output,
    });
  }
  throw workerExitError(code, output, "that of worker --check, in log_tail of the attempt");
}
