/** Unpacks an archive from stdin into the directory that is its argument. Answer on file descriptor 3, JSON. */
import { mkdirSync, writeFileSync, writeSync } from "node:fs";
import { dirname, join } from "node:path";
import { buffer } from "node:stream/consumers";
import { ArchiveError, unpackArchive } from "../../host/code-archive.ts";
import { CODE_FILES, CODE_LIMITS } from "../../supabase/functions/_shared/service-code.ts";

const KNOWN = new Set(Object.values(CODE_FILES));

if (import.meta.main) {
  const [directory = ""] = process.argv.slice(2);
  writeSync(3, JSON.stringify({ problem: unpack(await buffer(process.stdin), directory) ?? null }));
}

function unpack(archive: Buffer, directory: string): string | undefined {
  try {
    const files = unpackArchive(archive, CODE_LIMITS);
    const unknown = [...files.keys()].find((name) => !KNOWN.has(name));
    if (unknown !== undefined) return `it holds "${unknown}", which is no part of pushed code`;
    for (const [name, content] of files) {
      mkdirSync(dirname(join(directory, name)), { recursive: true });
      writeFileSync(join(directory, name), content, { flag: "wx", mode: 0o644 });
    }
    return undefined;
  } catch (error) {
    if (error instanceof ArchiveError) return error.message;
    throw error;
  }
}
