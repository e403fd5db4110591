import { createHash, randomUUID } from "node:crypto";
import { mkdir, readFile, rename, rm, utimes, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { join, resolve } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { build, type BuildOptions, type Plugin, stop } from "esbuild";
import { unusedFiles } from "../host/unused-files.ts";

/**
 * The worker in one file: all that `worker/launch.ts` imports of ours, with zod and pino. Temporal's SDK stays as it is, for it finds its own
 * files beside itself. A worker's `OSP_WORKER_PROGRAM` names the file (worker/launch-worker.ts).
 *
 * Sixty modules of ours and a hundred of theirs took as long to load as half of the SDK. CommonJS, because an `import` of the SDK looks through
 * its sources for what they export, and one of `node:http` loads `fetch`: 30 ms, which a `require` spares (measured, Node 24.21).
 */
export const PROGRAM_FILE = "launch.cjs";

const PROJECT = fileURLToPath(new URL("../", import.meta.url));
/** Whatever of ours asks where it lies: each that does lies in `worker/`, or asks for what is above such a directory. */
const IN_WORKER = pathToFileURL(join(PROJECT, "worker", PROGRAM_FILE)).href;

/** The program for a copy of the worker: it belongs into its `worker/`, with the packages above that. From the sources as they are now. */
export async function bundleWorkerCopy(): Promise<Uint8Array> {
  return await bundle({
    external: ["@temporalio/*"],
    plugins: [englishAlone],
    define: { "import.meta.url": "__osp_url" },
    banner: { js: `const __osp_url = require("node:url").pathToFileURL(__filename).href;` },
  });
}

/** One that runs with this project's packages, wherever it lies itself. */
const bundleWorkerHere = once(() =>
  bundle({
    plugins: [packagesOfProject, englishAlone],
    define: { "import.meta.url": JSON.stringify(IN_WORKER) },
  })
);

/** The path of such a program: below the cache directory, named by what is in it, and written again where that is not there. */
export async function keepWorkerProgram(cacheDirectory: string): Promise<string> {
  const contents = await bundleWorkerHere();
  const directory = resolve(cacheDirectory, "worker-programs");
  const path = join(directory, `${createHash("sha256").update(contents).digest("hex")}.cjs`);
  // Looked at, not only for: a machine that lost its power may have left an empty file.
  if ((await readFile(path).catch(() => undefined))?.equals(contents)) {
    await utimes(path, new Date(), new Date()).catch(() => {}); // another user's is as good
    return path;
  }
  await mkdir(directory, { recursive: true });
  const unfinished = join(directory, `${randomUUID()}.tmp`);
  await writeFile(unfinished, contents);
  await rename(unfinished, path);
  // Of earlier versions, or unfinished. What cannot be removed is left.
  await Promise.allSettled(unusedFiles(directory).map((unused) => rm(unused)));
  return path;
}

/** Our sources do not change while we run: a worker is started from what its deployer was started from. */
function once(make: () => Promise<Uint8Array>): () => Promise<Uint8Array> {
  let made: Promise<Uint8Array> | undefined;
  return async () => {
    try {
      return await (made ??= make());
    } catch (error) {
      made = undefined;
      throw error;
    }
  };
}

const packagesOfProject: Plugin = {
  name: "packages of the project",
  setup({ onResolve }) {
    const require = createRequire(IN_WORKER);
    onResolve({ filter: /^@temporalio\// }, ({ path }) => ({
      path: require.resolve(path),
      external: true,
    }));
  },
};

/** zod's messages in fifty other languages are a third of all there is to load. */
const englishAlone: Plugin = {
  name: "English alone",
  setup({ onLoad }) {
    onLoad({ filter: /\/node_modules\/zod\/v4\/locales\/index\.js$/ }, () => ({ contents: "" }));
  },
};

let running = 0;

async function bundle(options: BuildOptions): Promise<Uint8Array> {
  running++;
  try {
    const { outputFiles: [program] = [] } = await build({
      absWorkingDir: PROJECT,
      entryPoints: ["worker/launch.ts"],
      bundle: true,
      format: "cjs",
      platform: "node",
      target: "node24",
      legalComments: "none",
      logLevel: "silent",
      write: false,
      ...options,
    });
    if (program === undefined) throw new Error("esbuild wrote nothing");
    return program.contents;
  } finally {
    if (--running === 0) await stop(); // esbuild's own process
  }
}
