import { lstat, realpath, stat } from "node:fs/promises";
import { normalize, resolve, sep } from "node:path";
import { fileURLToPath } from "node:url";
import { BUILT_IN_ACTIVITIES_PATH, BUILT_IN_WORKFLOWS_PATH } from "../supabase/functions/_shared/manifest.ts";
import { visible } from "../supabase/functions/_shared/visible-text.ts";

/** A file in the code root that is missing, or is not one, or lies outside it. */
export class CodePathError extends Error {
  override readonly name = "CodePathError";

  constructor(message: string) {
    super(visible(message)); // it names paths, whatever they hold
  }
}

/** A module that a manifest names. */
export interface ModuleFile {
  /** `built-in`: the worker's own, for services without code of their own. */
  kind: "built-in" | "own";
  /** Absolute, symlinks resolved. */
  file: string;
  /** As the manifest names it. */
  name: string;
}

/** Only these two: their manifests are frozen, so the worker's own modules may move. */
const BUILT_IN_FILES = new Map([
  [normalize(BUILT_IN_ACTIVITIES_PATH), fileURLToPath(new URL("./service/activities.ts", import.meta.url))],
  [normalize(BUILT_IN_WORKFLOWS_PATH), fileURLToPath(new URL("./service/workflows.ts", import.meta.url))],
]);

/**
 * The module at a manifest's path: the code root's own file, else the built-in one where the path names it.
 *
 * @throws {CodePathError}
 */
export async function findModule(codeRoot: string, name: string): Promise<ModuleFile> {
  const builtIn = BUILT_IN_FILES.get(normalize(name));
  if (builtIn !== undefined && !(await exists(resolve(codeRoot, name)))) {
    return { kind: "built-in", file: builtIn, name };
  }
  return { kind: "own", file: await resolveInside(codeRoot, name), name };
}

/**
 * The real path of a regular file inside the code root. Symlinks count where they lead to.
 *
 * @throws {CodePathError}
 */
export async function resolveInside(codeRoot: string, path: string): Promise<string> {
  const root = await realpath(codeRoot);
  const file = await realpath(resolve(root, path)).catch(() => undefined);
  if (file === undefined) throw new CodePathError(`there is no file "${path}" in the code root ${root}`);
  if (!file.startsWith(root.endsWith(sep) ? root : root + sep)) {
    throw new CodePathError(`"${path}" leads out of the code root ${root}, to ${file}`);
  }
  if (!(await stat(file)).isFile()) throw new CodePathError(`"${path}" is no regular file`);
  return file;
}

/** A dangling symlink exists: somebody meant to bring code. */
async function exists(path: string): Promise<boolean> {
  return await lstat(path).then(() => true, () => false);
}
