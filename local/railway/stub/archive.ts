import { existsSync, readdirSync, readFileSync, realpathSync, statSync } from "node:fs";
import { basename, dirname, join, relative, resolve } from "node:path";
import { buffer } from "node:stream/consumers";
import { gzipSync } from "node:zlib";
import { create } from "tar";
import { Failure, NotInStubError } from "./failure.ts";

/** Two blocks of zeros, which end every archive. */
const EMPTY_TAR = Buffer.alloc(1024);
const NEVER_PACKED = ["node_modules", ".git"];
const IGNORE_FILES = [".railwayignore", ".ignore", ".gitignore"];
/** Says that nothing is ignored, whatever other files say. */
const IGNORES_NOTHING = /^!\*\n?$/;

/**
 * A gzipped tar archive of a directory, as `up` sends it: symbolic links as what they lead to, nothing that has
 * `node_modules` or `.git` anywhere in its path, even above the directory.
 *
 * @throws {Failure} for a link to nothing or to a directory above it, and for a directory that is not there
 */
export async function packDirectory(directory: string): Promise<Buffer> {
  const root = resolve(directory);
  if (existsSync(root)) refuseIgnoreFiles(root);
  const packed = walk(root, []).filter((path) => !path.split("/").some((part) => NEVER_PACKED.includes(part)));
  const paths = packed.map((path) => relative(root, path) || ".");
  if (paths.length === 0) return gzipSync(EMPTY_TAR);
  return await buffer(create({ cwd: root, gzip: true, follow: true, noDirRecurse: true }, paths));
}

/** Ignore files count in the directory, below it and above it; but before all of them its own `.railwayignore`. */
function refuseIgnoreFiles(root: string): void {
  const own = join(root, ".railwayignore");
  const isOpen = existsSync(own) && IGNORES_NOTHING.test(readFileSync(own, "utf8"));
  const below = readdirSync(root, { recursive: true, encoding: "utf8" }).map((name) => join(root, name));
  const parents = directoriesAbove(root).flatMap((directory) =>
    IGNORE_FILES.slice(0, 2).map((name) => join(directory, name))
  );
  const found = [...below, ...(isOpen ? [] : parents.filter((file) => existsSync(file)))]
    .find((file) => IGNORE_FILES.includes(basename(file)) && !(isOpen && file === own));
  if (found !== undefined) throw new NotInStubError(`an upload with ${found}`);
}

function directoriesAbove(directory: string): string[] {
  const parent = dirname(directory);
  return parent === directory ? [] : [parent, ...directoriesAbove(parent)];
}

/** A path and all beneath it. @param above real paths of the directories that lead to it */
function walk(path: string, above: string[]): string[] {
  const real = realPath(path);
  if (!statSync(real).isDirectory()) return [path];
  if (above.includes(real)) throw new Failure(`File system loop found: ${path} points to an ancestor ${real}`);
  const names = readdirSync(path);
  return [path, ...names.flatMap((name) => walk(join(path, name), [...above, real]))];
}

function realPath(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    throw new Failure(`${path}: IO error for operation on ${path}: No such file or directory (os error 2)`);
  }
}
