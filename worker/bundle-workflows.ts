/** Makes sure that the built-in workflows lie bundled in the cache, so that a worker starts at once; prints their path. */
import { cacheDirectory } from "../host/cache-directory.ts";
import { bundleBuiltInWorkflows } from "./workflow-bundles.ts";

process.stdout.write(`${await bundleBuiltInWorkflows(cacheDirectory(process.env))}\n`);
