import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { build, type Plugin, stop } from "esbuild";

const PROJECT = fileURLToPath(new URL("../", import.meta.url));
/** Whatever of ours asks where it lies: each that does lies in `worker/`, or asks for what is above such a directory. */
const IN_WORKER = pathToFileURL(join(PROJECT, "worker", "launch.cjs")).href;

/** The worker bundled: two files, which lie in one directory. */
export interface BundledWorker {
  /** What a worker starts from. */
  program: BundledFile;
  /** What its threads of workflows start from. Of its own: Node's compile cache keeps of a file what one of them has compiled. */
  thread: BundledFile;
}

export interface BundledFile {
  name: string;
  contents: Uint8Array;
}

/**
 * Packages that are not in the program: the activities of a service have a context of theirs, and it is found in one copy alone. With what
 * these load themselves.
 *
 * And of the SDK the file that calls activities: by its name the frames of the SDK are cut from the stack traces of their failures.
 */
const outside = ["@temporalio/activity", "@temporalio/common", "@temporalio/nexus", "@temporalio/proto", "nexus-rpc"];
const CALLS_ACTIVITIES = "@temporalio/worker/lib/activity.js";

/** In the program, and a service's own code may import them: worker/share-temporal-packages.ts has it find these. */
const inside = ["@temporalio/client", "@temporalio/worker", "@temporalio/workflow"];

/**
 * All that `worker/launch.ts` imports, Temporal's SDK included, for the packages above `worker/`.
 *
 * A worker from its sources loads 160 modules of ours, zod and pino, which take 100 ms, and 680 of the SDK, half of them `rxjs` and `memfs`,
 * which take 290 of the 600 that a start takes. CommonJS, because an `import` of a package looks through its sources for what they export, and
 * one of `node:http` loads `fetch`: 30 ms, which a `require` spares (measured, Node 24.21).
 *
 * @param place `copy`: it lies in the worker's directory, under the names that worker/Dockerfile knows. `here`: it lies anywhere, named by
 *   what is in it, and finds this project's packages.
 */
export async function bundleWorker(place: Place): Promise<BundledWorker> {
  const named = (contents: Uint8Array, name: string): BundledFile => ({
    name: place === "copy" ? name : `${createHash("sha256").update(contents).digest("hex")}.cjs`,
    contents,
  });
  builds++;
  try {
    const thread = named(await bundle(place, THREAD), "workflow-thread.cjs");
    return { program: named(await bundle(place, programBeside(thread)), "launch.cjs"), thread };
  } finally {
    if (--builds === 0) await stop(); // esbuild's own process
  }
}

type Place = "copy" | "here";

const made: { [place in Place]?: { stamp: string; bundling: Promise<BundledWorker> } } = {};

/** Made once, for as long as the stamp stays: it takes half a second. One that failed is made again. */
export async function bundleWorkerOnce(place: Place, stamp = ""): Promise<BundledWorker> {
  const known = made[place];
  const ours = known?.stamp === stamp ? known : (made[place] = { stamp, bundling: bundleWorker(place) });
  try {
    return await ours.bundling;
  } catch (error) {
    if (made[place] === ours) delete made[place];
    throw error;
  }
}

/** Under way. */
let builds = 0;

async function bundle(place: Place, contents: string): Promise<Uint8Array> {
  const url = place === "here" ? JSON.stringify(IN_WORKER) : `require("node:url").pathToFileURL(__filename).href`;
  const { outputFiles: [file] } = await build({
    absWorkingDir: PROJECT,
    stdin: { contents, resolveDir: PROJECT },
    bundle: true,
    external: outside.flatMap((name) => [name, `${name}/*`]),
    plugins: [callsActivities, withoutBundlers, englishAlone, besideThemselves],
    define: { "import.meta.url": "__osp_url" },
    banner: { js: `const __osp_url = ${url};\n${BANNER}` },
    format: "cjs",
    platform: "node",
    target: "node24",
    legalComments: "none",
    logLevel: "silent",
    write: false,
  });
  if (file === undefined) throw new Error("esbuild wrote nothing");
  return file.contents;
}

const THREAD = `require("@temporalio/worker/lib/workflow/workflow-worker-thread.js");`;

/**
 * Beside other packages than it was made of, which only an installation under a running deployer can cause, it has nothing to offer: the worker
 * starts from its sources. What it offers to ours: worker/program.ts.
 */
const programBeside = (thread: BundledFile) => `
const { join } = require("node:path");
const made = require("@temporalio/core-bridge/package.json").version;
const found = JSON.parse(require("node:fs").readFileSync(__osp_beside("@temporalio/core-bridge", "package.json"), "utf8")).version;
if (made === found) {
  globalThis.ospProgram = {
    packages: { ${inside.map((name) => `"${name}": () => require("${name}")`).join(", ")} },
    thread: join(__osp_directory, "${thread.name}"),
  };
  module.exports = require("./worker/launch.ts");
}
`;

/**
 * `require`: whatever is not in the program is looked for from the worker's directory.
 * `__osp_beside`: the path of a file of a package that the SDK loads, which is in the program and looks for something beside itself.
 */
const BANNER = `
var require = require("node:module").createRequire(__osp_url);
const __osp_directory = __dirname;
const __osp_beside = (name, file) => {
  const { createRequire } = require("node:module");
  const manifest = createRequire(require.resolve("@temporalio/worker/package.json")).resolve(name + "/package.json");
  return require("node:path").join(manifest, "..", file);
};
`;

const callsActivities: Plugin = {
  name: "calls activities",
  setup({ onResolve }) {
    onResolve(
      { filter: /^\.\/activity$/ },
      ({ importer }) =>
        importer.includes("/@temporalio/worker/lib/") ? { path: CALLS_ACTIVITIES, external: true } : undefined,
    );
  },
};

/** The SDK imports them with itself, for whoever bundles workflows in the process that runs them: our workers have bundles. */
const withoutBundlers: Plugin = {
  name: "without bundlers",
  setup({ onResolve, onLoad }) {
    onResolve({ filter: /^(?:memfs|unionfs|webpack)$/ }, ({ path }) => ({ path, namespace: "bundler" }));
    onLoad({ filter: /./, namespace: "bundler" }, () => ({ contents: "" }));
  },
};

/** zod's messages in fifty other languages are a third of all there is to load of ours. */
const englishAlone: Plugin = {
  name: "English alone",
  setup({ onLoad }) {
    onLoad({ filter: /\/node_modules\/zod\/v4\/locales\/index\.js$/ }, () => ({ contents: "" }));
  },
};

/** Files of packages that look for others beside themselves find those where they lie; looked for when it is asked for. */
const besideThemselves: Plugin = {
  name: "beside themselves",
  setup({ onLoad }) {
    onLoad({ filter: /\/node_modules\/.*\.[cm]?js$/ }, async ({ path }) => {
      const contents = await readFile(path, "utf8");
      if (!PLACE.test(contents)) return undefined;
      const [, name, file] = /^.*\/node_modules\/((?:@[^/]+\/)?[^/]+)\/(.*)$/.exec(path) ?? [];
      const own = `__osp_beside(${JSON.stringify(name)}, ${JSON.stringify(file)})`;
      return {
        contents: contents
          .replaceAll("require.resolve('./workflow-worker-thread')", "globalThis.ospProgram.thread")
          .replaceAll("require.resolve(", `require("node:module").createRequire(${own}).resolve(`)
          .replaceAll("__filename", own)
          .replaceAll("__dirname", `require("node:path").dirname(${own})`),
      };
    });
  },
};

const PLACE = /__dirname|__filename|require\.resolve\(/;
