/** Bundles one module of a service by esbuild. Request on stdin, answer on file descriptor 3, both JSON. */
import { writeSync } from "node:fs";
import { json } from "node:stream/consumers";
import { bundleModule } from "./bundle-module.ts";
import { bundleRequestSchema } from "./bundle-sources.ts";

if (import.meta.main) {
  const answer = await bundleModule(bundleRequestSchema.parse(await json(process.stdin)));
  writeSync(3, JSON.stringify(answer));
}
