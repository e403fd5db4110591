import { posix } from "node:path";
import { gunzipSync } from "node:zlib";
import { Parser, type ReadEntry } from "tar";

export interface UploadedFile {
  /** Relative, with `/`, without a leading `./`. */
  path: string;
  /** Permission bits. */
  mode: number;
  modifiedAt: Date | null;
  content: Buffer;
}

/** The archive is nothing that `railway up` can have packed. */
export class UploadError extends Error {
  override readonly name = "UploadError";
}

/**
 * The regular files of a gzipped tar archive, in its order.
 *
 * @throws {UploadError} for what is no such archive, a symbolic or hard link, a device, or a path that leaves the root
 */
export async function readUpload(archive: Buffer): Promise<UploadedFile[]> {
  if (archive[0] !== 0x1f || archive[1] !== 0x8b) throw new UploadError("The upload is not gzip");
  const files: Promise<UploadedFile>[] = [];
  const problems: string[] = [];
  const parser = new Parser({
    strict: true,
    onReadEntry: (entry) => {
      const problem = problemOf(entry);
      if (problem !== undefined) problems.push(problem);
      if (problem === undefined && entry.type === "File") files.push(readFile(entry));
      else entry.resume();
    },
  });
  try {
    const tar = gunzipSync(archive);
    // The library takes an archive of nothing for a broken one.
    if (tar.every((byte) => byte === 0)) return [];
    await parse(parser, tar);
  } catch (error) {
    throw new UploadError(`The upload is no tar archive: ${String(error)}`, { cause: error });
  }
  if (problems.length > 0) throw new UploadError(problems.join("; "));
  return await Promise.all(files);
}

function parse(parser: Parser, archive: Buffer): Promise<void> {
  return new Promise((resolve, reject) => {
    parser.on("end", resolve);
    parser.on("error", reject);
    parser.end(archive);
  });
}

function problemOf({ path, type }: ReadEntry): string | undefined {
  if (type !== "File" && type !== "Directory") return `${path} is of type ${type}`;
  const normal = posix.normalize(path);
  if (posix.isAbsolute(path) || normal.startsWith("..")) return `${path} leaves the root of the upload`;
  return undefined;
}

async function readFile(entry: ReadEntry): Promise<UploadedFile> {
  const { path, mode = 0, mtime = null } = entry;
  const content = Buffer.from(await entry.concat());
  return { path: posix.normalize(path), mode: mode & 0o777, modifiedAt: mtime, content };
}
