import { gzipSync } from "node:zlib";

/** An entry as an attacker writes it: every field may be wrong. */
export interface TarEntry {
  name: string;
  content?: string;
  /** Default: a regular file. */
  type?: string;
  link?: string;
  prefix?: string;
  mode?: number;
  owner?: string;
  /** Where it differs from the content's. */
  size?: number;
  rawSize?: string;
  checksum?: number;
}

const BLOCK = 512;

/** A gzipped archive of POSIX tar, byte by byte. */
export function tarOf(entries: TarEntry[], { end = 2 * BLOCK, after = "" } = {}): Buffer {
  const blocks = entries.flatMap((entry) => {
    const content = Buffer.from(entry.content ?? "", "latin1");
    return [header(entry, content.length), content, Buffer.alloc((BLOCK - (content.length % BLOCK)) % BLOCK)];
  });
  return gzipSync(Buffer.concat([...blocks, Buffer.alloc(end), Buffer.from(after)]));
}

function header(entry: TarEntry, length: number): Buffer {
  const bytes = Buffer.alloc(BLOCK);
  const octal = (value: number, at: number, digits: number) =>
    bytes.write(value.toString(8).padStart(digits, "0"), at, "latin1");
  bytes.write(entry.name, 0, 100, "utf8");
  octal(entry.mode ?? 0o644, 100, 7);
  octal(0, 108, 7);
  octal(0, 116, 7);
  if (entry.rawSize === undefined) octal(entry.size ?? length, 124, 11);
  else bytes.write(entry.rawSize, 124, "latin1");
  octal(946_684_800, 136, 11);
  bytes.write(entry.type ?? "0", 156, "latin1");
  bytes.write(entry.link ?? "", 157, 100, "utf8");
  bytes.write("ustar\0" + "00", 257, "latin1");
  bytes.write(entry.owner ?? "", 265, 32, "latin1");
  bytes.write(entry.prefix ?? "", 345, 155, "utf8");
  bytes.fill(" ", 148, 156);
  octal(entry.checksum ?? bytes.reduce((sum, byte) => sum + byte, 0), 148, 6);
  bytes.write("\0 ", 154, "latin1");
  return bytes;
}
