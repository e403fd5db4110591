import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { build, type BuildFailure, type BuildOptions } from "esbuild";
import { isReservedExport } from "../../supabase/functions/_shared/service-code.ts";
import { largestOf, notesOf, nothingExported, REFUSED, tell } from "./bundle-messages.ts";
import type { BundleAnswer, BundleRequest } from "./bundle-sources.ts";
import { resolvePlugin } from "./resolve-plugin.ts";

/**
 * CommonJS among the packages finds what Node brings and the worker's `@temporalio/*`; anything else would be whatever lies
 * around where the code runs.
 */
const REQUIRE = `
import { createRequire as __osp_createRequire, isBuiltin as __osp_isBuiltin } from "node:module";
const __osp_require = __osp_createRequire(import.meta.url);
const require = (name) => {
  if (__osp_isBuiltin(name) || name.startsWith("@temporalio/")) return __osp_require(name);
  throw Object.assign(new Error("Cannot find module '" + name + "': it is not part of the code that was pushed"), { code: "MODULE_NOT_FOUND" });
};
const __osp_filename = import.meta.filename, __osp_dirname = import.meta.dirname;
`.trim().replaceAll("\n", " ");

/** Bundles one module of a service and writes it; what cannot be bundled is in the answer. */
export async function bundleModule(request: BundleRequest): Promise<BundleAnswer> {
  try {
    const { metafile, outputFiles } = await build(optionsOf(request));
    const output = outputFiles.find(({ path }) => path.endsWith(".mjs"));
    const [, described] = Object.entries(metafile.outputs).find(([path]) => path.endsWith(".mjs")) ?? [];
    if (output === undefined || described === undefined) throw new Error("esbuild wrote nothing");
    writeFileSync(request.outputFile, output.contents);
    const exported = described.exports.filter((name) => name !== "default" && !isReservedExport(name));
    return {
      problems: exported.length > 0 ? [] : [nothingExported(request.file)],
      notes: request.kind === "activities" ? notesOf(described, request.directory) : [],
      exported,
      largest: largestOf(described),
    };
  } catch (error) {
    if (!isBuildFailure(error)) throw error;
    return { problems: error.errors.map(tell), notes: [], exported: [], largest: [] };
  }
}

function optionsOf({ directory, kind, file, ignoreModules }: BundleRequest) {
  return {
    absWorkingDir: directory,
    // Not the module itself: its default export would answer to any name.
    stdin: {
      contents: [`export * from ${JSON.stringify(`./${file}`)};`, ...(kind === "workflows" ? [probe()] : [])].join(
        "\n",
      ),
      loader: "ts",
      resolveDir: directory,
      sourcefile: "exports.ts",
    },
    bundle: true,
    write: false,
    // Beside the sources as far as names go, so that they are the same wherever the directory lies.
    outfile: join(directory, `${kind}.mjs`),
    format: "esm",
    target: "node24",
    // Workflows run in a sandbox that is like a browser, and Temporal's bundler takes them for one.
    ...(kind === "workflows" ? { platform: "browser", define: { global: "globalThis" } } : {
      platform: "node",
      banner: { js: REQUIRE },
      // A module may declare these itself: only those that are nobody's are meant.
      define: { __dirname: "__osp_dirname", __filename: "__osp_filename" },
    }),
    keepNames: true,
    legalComments: "none",
    sourcemap: "inline",
    sourcesContent: false,
    metafile: true,
    logLevel: "silent",
    logLimit: 0,
    logOverride: REFUSED,
    plugins: [resolvePlugin(kind, ignoreModules)],
  } satisfies BuildOptions;
}

/** As text: its path would differ between machines. */
function probe(): string {
  return readFileSync(new URL("../../worker/service/probe.ts", import.meta.url), "utf8");
}

function isBuildFailure(error: unknown): error is BuildFailure {
  return error instanceof Error && "errors" in error && Array.isArray(error.errors);
}
