/**
 * Runs the worker of one service: what to run is in the manifest at `MANIFEST_PATH`, where Temporal is in `TEMPORAL_*`,
 * the code root is the working directory. `--check [manifest]` only validates: it needs no Temporal.
 */
import { enableCompileCache } from "node:module";
import { join } from "node:path";
import { cacheDirectory } from "../host/cache-directory.ts";

// Before anything large is loaded: it spares a third of the start.
enableCompileCache(join(cacheDirectory(process.env), "compile-cache"));
const { launchWorker } = await import("./launch.ts");
await launchWorker({ environment: process.env, codeRoot: process.cwd(), args: process.argv.slice(2) });
