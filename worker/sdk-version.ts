import { createRequire } from "node:module";
import { z } from "zod";

/** Version of Temporal's SDK, without loading it: what bundles workflows and runs them must be the same. */
export function sdkVersion(): string {
  return z.object({ version: z.string() }).parse(createRequire(import.meta.url)("@temporalio/worker/package.json"))
    .version;
}
