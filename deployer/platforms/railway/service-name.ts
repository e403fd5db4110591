import { createHash } from "node:crypto";

/** Railway's limit for the name of a service. */
const LONGEST = 32;
const HASH_DIGITS = 12;

/**
 * The name of a schema's Railway service: the schema itself, or its beginning and a hash of all of it. No schema holds a
 * hyphen, so a shortened name is nobody's whole name.
 */
export function serviceName(serviceSchema: string): string {
  if (serviceSchema.length <= LONGEST) return serviceSchema;
  const hash = createHash("sha256").update(serviceSchema).digest("hex").slice(0, HASH_DIGITS);
  return `${serviceSchema.slice(0, LONGEST - HASH_DIGITS - 1)}-${hash}`;
}
