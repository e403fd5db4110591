import { readdirSync, realpathSync, statSync } from "node:fs";
import { join, relative, resolve } from "node:path";
import { buffer } from "node:stream/consumers";
import { gzipSync } from "node:zlib";
import { create } from "tar";
import { Failure, NotInStubError } from "./failure.ts";

/** Two blocks of zeros, which end every archive. */
const EMPTY_TAR = Buffer.alloc(1024);
const NEVER_PACKED = ["node_modules", ".git"];
const IGNORE_FILES = [".railwayignore", ".ignore", ".gitignore"];

/**
 * A gzipped tar archive of a directory, as `up` sends it: symbolic links as what they lead to, nothing that has
 * `node_modules` or `.git` anywhere in its path, even above the directory.
 *
 * @throws {Failure} for a link to nothing or to a directory above it, and for a directory that is not there
 */
export async function packDirectory(directory: string): Promise<Buffer> {
  const root = resolve(directory);
  const packed = walk(root, []).filter((path) => !path.split("/").some((part) => NEVER_PACKED.includes(part)));
  const paths = packed.map((path) => relative(root, path) || ".");
  if (paths.length === 0) return gzipSync(EMPTY_TAR);
  return await buffer(create({ cwd: root, gzip: true, follow: true, noDirRecurse: true }, paths));
}

/** A path and all beneath it. @param above real paths of the directories that lead to it */
function walk(path: string, above: string[]): string[] {
  const real = realPath(path);
  if (!statSync(real).isDirectory()) return [path];
  if (above.includes(real)) throw new Failure(`File system loop found: ${path} points to an ancestor ${real}`);
  const names = readdirSync(path);
  const ignore = names.find((name) => IGNORE_FILES.includes(name));
  if (ignore !== undefined) throw new NotInStubError(`an upload with ${join(path, ignore)}`);
  return [path, ...names.flatMap((name) => walk(join(path, name), [...above, real]))];
}

function realPath(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    throw new Failure(`${path}: IO error for operation on ${path}: No such file or directory (os error 2)`);
  }
}
