import { readFile, stat } from "node:fs/promises";
import { type Manifest, ManifestInvalidError, parseManifest } from "../supabase/functions/_shared/manifest.ts";
import { tellProblems } from "../supabase/functions/_shared/problems.ts";
import { CodePathError, resolveInside } from "./code-root.ts";
import { describeError, EXIT_CODES, WorkerExitError } from "./exit.ts";

/** As much as the bucket of manifests takes. */
const MOST_BYTES = 1024 * 1024;

/** @throws {WorkerExitError} listing everything to correct */
export async function readManifest(codeRoot: string, path: string): Promise<Manifest> {
  try {
    const file = await resolveInside(codeRoot, path);
    const { size } = await stat(file);
    if (size > MOST_BYTES) throw new CodePathError(`"${path}" has ${size} bytes, a manifest has at most ${MOST_BYTES}`);
    return parseManifest(path, JSON.parse(await readFile(file, "utf8")));
  } catch (error) {
    throw new WorkerExitError(EXIT_CODES.unusable, problemsOf(path, error), { cause: error });
  }
}

function problemsOf(path: string, error: unknown): string[] {
  if (error instanceof ManifestInvalidError) return tellProblems(error.problems);
  if (error instanceof CodePathError) return [`MANIFEST_PATH: ${error.message}`];
  if (error instanceof SyntaxError) return [`manifest ${path} is not JSON: ${describeError(error)}`];
  return [`manifest ${path} cannot be read: ${describeError(error)}`];
}
