import { constants, gunzipSync, gzipSync } from "node:zlib";
import { visible } from "../supabase/functions/_shared/visible-text.ts";

/** An archive that nobody should unpack. */
export class ArchiveError extends Error {
  override readonly name = "ArchiveError";
}

export interface ArchiveLimits {
  unpackedBytes: number;
  files: number;
}

const BLOCK = 512;
/** Letters, digits and `. _ -`; no part begins with a dot, so none leads upwards or hides. */
const SAFE_PATH = /^[A-Za-z0-9_][A-Za-z0-9._-]*(\/[A-Za-z0-9_][A-Za-z0-9._-]*)*$/;
/** What the name field of a header holds. */
const MOST_PATH = 100;
/** Nobody needs to know when, nor by whom: the same files give the same bytes. 2000-01-01, in seconds. */
const MODIFIED_AT = 946_684_800;
const MODE = 0o644;

/**
 * A gzipped tar archive (POSIX ustar) of regular files, sorted by path. The same files give the same bytes, on one version of
 * Node at least: how well zlib compresses is its own.
 *
 * @throws {ArchiveError} for a path that `unpackArchive` would refuse
 */
export function packArchive(files: ReadonlyMap<string, Uint8Array>): Buffer {
  const names = [...files.keys()].sort();
  refusePaths(names);
  const blocks = names.flatMap((name) => {
    const content = files.get(name) ?? Buffer.alloc(0);
    return [headerOf(name, content.length), content, Buffer.alloc(paddingOf(content.length))];
  });
  const archive = gzipSync(Buffer.concat([...blocks, Buffer.alloc(2 * BLOCK)]), {
    level: constants.Z_BEST_COMPRESSION,
  });
  archive[9] = 255; // the operating system: unknown
  return archive;
}

/**
 * The files of an archive, as `packArchive` makes it and in no other form: no links, devices or directories, no path that
 * leads anywhere, nothing twice.
 *
 * @throws {ArchiveError} saying what is wrong; never reads more than `limits` allow
 */
export function unpackArchive(archive: Uint8Array, limits: ArchiveLimits): Map<string, Buffer> {
  const tar = gunzip(archive, limits.unpackedBytes);
  const files = new Map<string, Buffer>();
  let offset = 0;
  for (; offset + BLOCK <= tar.length && !isZero(tar.subarray(offset, offset + BLOCK)); offset += BLOCK) {
    const { name, size } = readHeader(tar.subarray(offset, offset + BLOCK));
    if (files.has(name)) throw new ArchiveError(`it holds "${visible(name)}" twice`);
    if (files.size === limits.files) throw new ArchiveError(`it holds more than ${limits.files} files`);
    const begin = offset + BLOCK;
    if (begin + size > tar.length) throw new ArchiveError(`it ends within "${visible(name)}"`);
    files.set(name, tar.subarray(begin, begin + size));
    offset += size + paddingOf(size);
  }
  if (tar.length < offset + 2 * BLOCK || !isZero(tar.subarray(offset))) {
    throw new ArchiveError("it does not end as an archive does");
  }
  refusePaths([...files.keys()]);
  return files;
}

function gunzip(archive: Uint8Array, most: number): Buffer {
  try {
    return gunzipSync(archive, { maxOutputLength: most });
  } catch (error) {
    const { code, message } = Object(error);
    if (code === "ERR_BUFFER_TOO_LARGE") throw new ArchiveError(`it unpacks to more than ${most} bytes`);
    throw new ArchiveError(`it is not gzip: ${visible(String(message))}`, { cause: error });
  }
}

/** @throws {ArchiveError} */
function refusePaths(names: readonly string[]): void {
  const bad = names.find((name) => name.length > MOST_PATH || !SAFE_PATH.test(name));
  if (bad !== undefined) {
    throw new ArchiveError(
      `it holds a file "${visible(bad.slice(0, 200))}": a path is relative, of letters, digits and . _ - , at most ` +
        `${MOST_PATH} characters, and no part of it begins with a dot`,
    );
  }
  // Where names are one file's whatever their case, one would write over the other.
  const folded = new Set<string>();
  for (const name of names) {
    const lower = name.toLowerCase();
    if (folded.has(lower)) throw new ArchiveError(`it holds "${name}" twice, but for upper and lower case`);
    folded.add(lower);
  }
  for (const name of folded) {
    const parts = name.split("/");
    const above = parts.map((_, index) => parts.slice(0, index).join("/")).find((path) => folded.has(path));
    if (above !== undefined) throw new ArchiveError(`it holds "${above}" both as a file and as a directory`);
  }
}

/** https://pubs.opengroup.org/onlinepubs/9799919799/utilities/pax.html, "ustar Interchange Format" */
function headerOf(name: string, size: number): Buffer {
  const header = Buffer.alloc(BLOCK);
  const octal = (value: number, at: number, digits: number) =>
    header.write(value.toString(8).padStart(digits, "0"), at, "latin1");
  header.write(name, 0, "latin1");
  octal(MODE, 100, 7);
  octal(0, 108, 7); // owner
  octal(0, 116, 7); // group
  octal(size, 124, 11);
  octal(MODIFIED_AT, 136, 11);
  header.write("0", 156, "latin1"); // a regular file
  header.write("ustar\0" + "00", 257, "latin1");
  octal(checksumOf(header), 148, 6);
  header.write("\0 ", 154, "latin1");
  return header;
}

/** @throws {ArchiveError} for anything but the header of a regular file as `headerOf` writes it */
function readHeader(header: Buffer): { name: string; size: number } {
  const end = header.indexOf(0);
  const name = header.toString("latin1", 0, end < 0 || end > MOST_PATH ? MOST_PATH : end);
  const shown = `"${visible(name)}"`;
  const type = header.toString("latin1", 156, 157);
  if (type !== "0") throw new ArchiveError(`it holds ${shown}, which is ${TYPES[type] ?? "no regular file"}`);
  const size = header.toString("latin1", 124, 135);
  if (!/^[0-7]{11}$/.test(size)) throw new ArchiveError(`it holds ${shown} without a size`);
  const isAsWritten = headerOf(name, Number.parseInt(size, 8)).equals(header);
  if (!isAsWritten) throw new ArchiveError(`it holds ${shown} in a form that osp code push does not write`);
  return { name, size: Number.parseInt(size, 8) };
}

const TYPES: Record<string, string> = {
  "1": "a link",
  "2": "a symbolic link",
  "3": "a device",
  "4": "a device",
  "5": "a directory",
  "6": "a pipe",
  L: "a long name",
  x: "an extended header",
  g: "an extended header",
};

/** The sum of the header's bytes, its own field as blanks. */
function checksumOf(header: Buffer): number {
  return header.reduce((sum, byte, index) => sum + (index >= 148 && index < 156 ? 0x20 : byte), 0);
}

function paddingOf(size: number): number {
  return (BLOCK - (size % BLOCK)) % BLOCK;
}

function isZero(bytes: Buffer): boolean {
  return bytes.every((byte) => byte === 0);
}
