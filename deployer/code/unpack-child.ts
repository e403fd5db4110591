/**
 * Unpacks an archive from stdin into the directory that is its argument. Answer on file descriptor 3, JSON: `problem` of the
 * archive, or `no_room`, which is nobody's fault.
 */
import { mkdirSync, writeFileSync, writeSync } from "node:fs";
import { dirname, join } from "node:path";
import { buffer } from "node:stream/consumers";
import { ArchiveError, unpackArchive } from "../../host/code-archive.ts";
import { CODE_FILES, CODE_LIMITS } from "../../supabase/functions/_shared/service-code.ts";

const KNOWN = new Set(Object.values(CODE_FILES));

/** A disk that is full, a quota that is used up, a file system that turned read-only. */
const NO_ROOM = new Set(["ENOSPC", "EDQUOT", "EROFS"]);

if (import.meta.main) {
  const [directory = ""] = process.argv.slice(2);
  writeSync(3, JSON.stringify(unpack(await buffer(process.stdin), directory)));
}

function unpack(archive: Buffer, directory: string): { problem?: string; no_room?: string } {
  try {
    const files = unpackArchive(archive, CODE_LIMITS);
    const unknown = [...files.keys()].find((name) => !KNOWN.has(name));
    if (unknown !== undefined) return { problem: `it holds "${unknown}", which is no part of pushed code` };
    for (const [name, content] of files) {
      mkdirSync(dirname(join(directory, name)), { recursive: true });
      writeFileSync(join(directory, name), content, { flag: "wx", mode: 0o644 });
    }
    return {};
  } catch (error) {
    if (error instanceof ArchiveError) return { problem: error.message };
    if (error instanceof Error && "code" in error && NO_ROOM.has(String(error.code))) return { no_room: error.message };
    throw error;
  }
}
