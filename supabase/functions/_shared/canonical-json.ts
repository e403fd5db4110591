/**
 * Canonical JSON (RFC 8785): the same value is always the same bytes, whoever wrote it.
 *
 * ECMAScript's own number and string forms are the RFC's (section 3.2.2); what is left is to sort keys by UTF-16 code
 * units, which is what `Array.prototype.sort` does.
 *
 * @throws {TypeError} for what JSON cannot hold: NaN, infinities, lone surrogates, undefined, functions; and for what is nested
 *   more than 100 deep, which would end with the stack otherwise
 */
export function canonicalJson(value: unknown): string {
  return write(value, 0);
}

const MOST_DEEP = 100;

function write(value: unknown, depth: number): string {
  if (depth > MOST_DEEP) throw new TypeError(`Cannot write canonical JSON: it is nested more than ${MOST_DEEP} deep`);
  if (value === null || typeof value === "boolean") return JSON.stringify(value);
  if (typeof value === "string") return canonicalString(value);
  if (typeof value === "number") {
    if (Number.isFinite(value)) return JSON.stringify(value);
    throw new TypeError(`Cannot write canonical JSON: ${value} is no JSON number`);
  }
  if (Array.isArray(value)) return `[${value.map((item) => write(item, depth + 1)).join(",")}]`;
  if (typeof value === "object") {
    const members = Object.entries(value).filter(([, member]) => member !== undefined);
    members.sort(([a], [b]) => (a < b ? -1 : 1));
    return `{${members.map(([key, member]) => `${canonicalString(key)}:${write(member, depth + 1)}`).join(",")}}`;
  }
  throw new TypeError(`Cannot write canonical JSON: a ${typeof value} is no JSON value`);
}

function canonicalString(text: string): string {
  if (!text.isWellFormed()) throw new TypeError("Cannot write canonical JSON: the text holds a lone surrogate");
  return JSON.stringify(text);
}

/** SHA-256 of a text's UTF-8 bytes, as 64 lower-case hex digits. */
export async function sha256Hex(text: string): Promise<string> {
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text));
  return Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
