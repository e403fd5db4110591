import { readFile } from "node:fs/promises";
import { type Manifest, ManifestInvalidError, parseManifest } from "../supabase/functions/_shared/manifest.ts";
import { formatProblems } from "../supabase/functions/_shared/problems.ts";
import { CodePathError, resolveInside } from "./code-root.ts";
import { describeError, EXIT_CODES, WorkerExitError } from "./exit.ts";

/** @throws {WorkerExitError} listing everything to correct */
export async function readManifest(codeRoot: string, path: string): Promise<Manifest> {
  try {
    const text = await readFile(await resolveInside(codeRoot, path), "utf8");
    return parseManifest(path, JSON.parse(text));
  } catch (error) {
    throw new WorkerExitError(EXIT_CODES.unusable, problemsOf(path, error), { cause: error });
  }
}

function problemsOf(path: string, error: unknown): string[] {
  if (error instanceof ManifestInvalidError) return error.problems.map((problem) => formatProblems([problem]));
  if (error instanceof CodePathError) return [`MANIFEST_PATH: ${error.message}`];
  if (error instanceof SyntaxError) return [`manifest ${path} is not JSON: ${error.message}`];
  return [`manifest ${path} cannot be read: ${describeError(error)}`];
}
