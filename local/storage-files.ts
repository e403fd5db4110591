import { createHash, randomUUID } from "node:crypto";
import { mkdir, open, readFile, rename, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import { z } from "zod";

/** What is kept of an object besides its bytes: the first line of its file, as JSON. */
const headerSchema = z.object({
  mimetype: z.string(),
  cacheControl: z.string(),
  size: z.int(),
  eTag: z.string(),
  lastModified: z.coerce.date(),
});
type Header = z.infer<typeof headerSchema>;

/** As `@supabase/lite` wants it back. */
interface ObjectMetadata extends Header {
  contentLength: number;
}

type Body = ReadableStream<Uint8Array<ArrayBuffer>> | Uint8Array;

/**
 * Keeps the objects of Storage as files, one each, below a directory: the adapter that `@supabase/lite` documents and
 * does not export. The rows of `storage.objects` say which objects exist; a file without a row is never served.
 *
 * Bytes and content type share one file because it is written aside and renamed: an object is the old one or the new
 * one, whatever is killed when.
 */
export function createFileStorage(directory: string) {
  const write = async (bucket: string, key: string, header: Header, bytes: Uint8Array): Promise<ObjectMetadata> => {
    const path = objectPath(directory, bucket, key);
    await writeWhole(path, [new TextEncoder().encode(`${JSON.stringify(header)}\n`), bytes]);
    return { ...header, contentLength: header.size };
  };
  const read = async (bucket: string, key: string) => {
    const file = await readFile(objectPath(directory, bucket, key));
    const end = file.indexOf(10);
    const header = headerSchema.parse(JSON.parse(file.subarray(0, end).toString("utf8")));
    return { header, bytes: file.subarray(end + 1) };
  };
  const remove = (bucket: string, key: string) => rm(objectPath(directory, bucket, key), { force: true });
  return {
    driver: null,
    async uploadObject(
      bucket: string,
      key: string,
      _version: string | undefined,
      body: Body,
      mimetype: string,
      cacheControl: string,
    ): Promise<ObjectMetadata> {
      const bytes = body instanceof Uint8Array ? body : new Uint8Array(await new Response(body).arrayBuffer());
      const eTag = `"${createHash("md5").update(bytes).digest("hex")}"`;
      return await write(
        bucket,
        key,
        { mimetype, cacheControl, size: bytes.length, eTag, lastModified: new Date() },
        bytes,
      );
    },
    async getObject(bucket: string, key: string) {
      const { header, bytes } = await read(bucket, key);
      return { httpStatusCode: 200, metadata: { ...header, contentLength: header.size }, body: bytes };
    },
    async headObject(bucket: string, key: string): Promise<ObjectMetadata> {
      const { header } = await read(bucket, key);
      return { ...header, contentLength: header.size };
    },
    deleteObject: remove,
    async deleteObjects(bucket: string, keys: string[]): Promise<void> {
      for (const key of keys) await remove(bucket, key);
    },
    async copyObject(bucket: string, key: string, _version: string | undefined, toBucket: string, toKey: string) {
      const { header, bytes } = await read(bucket, key);
      const { eTag, lastModified } = await write(toBucket, toKey, { ...header, lastModified: new Date() }, bytes);
      return { httpStatusCode: 200, eTag, lastModified };
    },
    privateAssetUrl: (bucket: string, key: string) => Promise.resolve(`file://${objectPath(directory, bucket, key)}`),
  };
}

/**
 * Where an object lies. Every key has its own place below `<directory>/<bucket>`, whatever it holds: no segment is
 * empty or made of dots, none holds a separator, and a directory (`a@`) is never the file of an object (`a`).
 */
export function objectPath(directory: string, bucket: string, key: string): string {
  const segments = key.split("/").map(fileName);
  const leaf = segments.pop() ?? "%";
  return join(directory, fileName(bucket), ...segments.map((segment) => `${segment}@`), leaf);
}

function fileName(segment: string): string {
  const encoded = encodeURIComponent(segment); // leaves no "/", "\", "@" or NUL
  if (encoded === "") return "%";
  return /^\.+$/.test(encoded) ? encoded.replaceAll(".", "%2E") : encoded;
}

async function writeWhole(path: string, parts: Uint8Array[]): Promise<void> {
  await mkdir(dirname(path), { recursive: true });
  const aside = join(dirname(path), `@${randomUUID()}`);
  try {
    const file = await open(aside, "wx");
    try {
      for (const part of parts) await file.writeFile(part);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(aside, path);
  } catch (error) {
    await rm(aside, { force: true });
    throw error;
  }
}
