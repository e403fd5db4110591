import { readFileSync } from "node:fs";
import { z } from "zod";

const lockSchema = z.looseObject({
  packages: z.record(
    z.string(),
    z.looseObject({
      version: z.string().optional(),
      optionalDependencies: z.record(z.string(), z.string()).optional(),
    }),
  ),
});
export type Lock = z.infer<typeof lockSchema>;

export function readLock(path: string): Lock {
  return lockSchema.parse(JSON.parse(readFileSync(path, "utf8")));
}

/**
 * Packages with optional ones that the lock file does not list: `npm install` left out what its registry did not offer, and
 * `npm ci` refuses such a file on every machine. Pure.
 */
export function incompletePackages({ packages }: Lock): { path: string; missing: string[] }[] {
  const names = new Set(Object.keys(packages).map((path) => path.slice(path.lastIndexOf("node_modules/") + 13)));
  return Object.entries(packages).flatMap(([path, { optionalDependencies = {} }]) => {
    const missing = Object.keys(optionalDependencies).filter((name) => !names.has(name));
    return missing.length === 0 ? [] : [{ path, missing }];
  });
}
