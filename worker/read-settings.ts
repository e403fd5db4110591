import type { Manifest } from "../supabase/functions/_shared/manifest.ts";
import { parseConfig, type WorkerConfig } from "./config.ts";
import { EXIT_CODES, WorkerExitError } from "./exit.ts";
import { readManifest } from "./read-manifest.ts";

/**
 * What to run, and how.
 *
 * @throws {WorkerExitError} listing every variable and everything in the manifest to correct
 */
export async function readSettings(
  environment: NodeJS.ProcessEnv,
  codeRoot: string,
): Promise<{ config: WorkerConfig; manifest: Manifest }> {
  const problems: string[] = [];
  const config = await orProblems(() => parseConfig(environment), problems);
  // Where it is not named, that is told as a variable's fault.
  const path = environment["MANIFEST_PATH"]?.trim();
  const manifest = path ? await orProblems(() => readManifest(codeRoot, path), problems) : undefined;
  if (config === undefined || manifest === undefined) throw new WorkerExitError(EXIT_CODES.unusable, problems);
  return { config, manifest };
}

async function orProblems<Found>(find: () => Found | Promise<Found>, problems: string[]): Promise<Found | undefined> {
  try {
    return await find();
  } catch (error) {
    if (!(error instanceof WorkerExitError)) throw error;
    problems.push(...error.problems);
    return undefined;
  }
}
