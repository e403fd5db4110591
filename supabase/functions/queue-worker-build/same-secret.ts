/** Whether a caller brought the secret. Takes the same time wherever the two differ: their digests are compared. */
export async function isSameSecret(given: string | null, secret: string): Promise<boolean> {
  const [a, b] = await Promise.all([digest(given ?? ""), digest(secret)]);
  let difference = 0;
  a.forEach((byte, index) => difference |= byte ^ (b[index] ?? 0));
  return difference === 0;
}

async function digest(text: string): Promise<Uint8Array> {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text)));
}
