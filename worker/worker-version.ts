import { readFileSync } from "node:fs";
import { z } from "zod";

/** Version of the project that this worker is part of, from the package.json beside `worker/`. */
export function workerVersion(): string {
  const text = readFileSync(new URL("../package.json", import.meta.url), "utf8");
  return z.object({ version: z.string().regex(/^\S+$/) }).parse(JSON.parse(text)).version;
}
