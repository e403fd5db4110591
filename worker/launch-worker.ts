/**
 * Runs the worker of one service: what to run is in the manifest at `MANIFEST_PATH`, where Temporal is in `TEMPORAL_*`,
 * the code root is the working directory. `--check [manifest]` only validates: it needs no Temporal.
 *
 * `OSP_WORKER_PROGRAM` names the bundled worker, which starts quicker (deployer/bundle-worker.ts): absolute, or relative to this
 * file. One that was made with another version of Temporal's SDK than lies here has nothing in it.
 */
import { createRequire, enableCompileCache } from "node:module";
import { join } from "node:path";
import { cacheDirectory } from "../host/cache-directory.ts";

// Before anything large is loaded: it spares a third of the start.
enableCompileCache(join(cacheDirectory(process.env), "compile-cache"));
const program = process.env["OSP_WORKER_PROGRAM"];
const made: Partial<typeof import("./launch.ts")> = program === undefined
  ? {}
  : createRequire(import.meta.url)(program);
const { launchWorker = (await import("./launch.ts")).launchWorker } = made;
await launchWorker({ environment: process.env, codeRoot: process.cwd(), args: process.argv.slice(2) });
