/** `t=1795699223,v1=5257a869…`: when it was signed, and HMAC-SHA256 over `<t>.<body>`, one `v1` for each secret in use. */
export const SIGNATURE_HEADER = "x-osp-signature";

export const MIN_SECRET_CHARACTERS = 16;

export interface Signature {
  /** Seconds since 1970. */
  signedAt: number;
  /** As 64 lower-case hex digits. */
  digests: string[];
}

/** Signs a body: the value of the header. */
export type Signer = (body: string, signedAt: number) => Promise<string>;

export function createSigner(secrets: readonly string[]): Signer {
  const keys = secrets.map(importKey);
  return async (body, signedAt) => {
    const bytes = new TextEncoder().encode(body);
    const digests = await Promise.all(keys.map(async (key) => digestOf(bytes, await key, signedAt)));
    return [`t=${signedAt}`, ...digests.map((digest) => `v1=${digest}`)].join(",");
  };
}

/** Undefined for what is no signature. Parts of later versions are passed over. */
export function parseSignature(header: string): Signature | undefined {
  const parts = header.split(",").map((part) => part.trim().split("=", 2));
  const valuesOf = (wanted: string) => parts.flatMap(([name, value = ""]) => (name === wanted ? [value] : []));
  const [time = "", ...more] = valuesOf("t");
  const digests = valuesOf("v1").filter((digest) => /^[0-9a-f]{64}$/.test(digest));
  if (!/^\d{1,12}$/.test(time) || more.length > 0 || digests.length === 0) return undefined;
  return { signedAt: Number(time), digests };
}

/** What one secret makes of a body. */
export async function signatureDigest(body: Uint8Array, secret: string, signedAt: number): Promise<string> {
  return await digestOf(body, await importKey(secret), signedAt);
}

async function digestOf(body: Uint8Array, key: CryptoKey, signedAt: number): Promise<string> {
  const prefix = new TextEncoder().encode(`${signedAt}.`);
  const signed = new Uint8Array(prefix.length + body.length);
  signed.set(prefix);
  signed.set(body, prefix.length);
  const digest = await crypto.subtle.sign("HMAC", key, signed);
  return Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

async function importKey(secret: string): Promise<CryptoKey> {
  const key = new TextEncoder().encode(secret.trim());
  return await crypto.subtle.importKey("raw", key, { name: "HMAC", hash: "SHA-256" }, false, ["sign"]);
}
