/**
 * Bundles workflows in a process of its own: webpack's 120 MB go back to the machine, and no credential is in the environment.
 * Nothing of what is bundled runs here. Request on stdin, answer on file descriptor 3, both JSON.
 */
import { writeFileSync, writeSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, resolve, sep } from "node:path";
import { json } from "node:stream/consumers";
import { bundleWorkflowCode, DefaultLogger } from "@temporalio/worker";
import { describeError } from "./exit.ts";
import { type BundleAnswer, type BundleRequest, bundleRequestSchema } from "./run-bundle-child.ts";
import { INTERCEPTORS_FILE } from "./workflow-entry.ts";

if (import.meta.main) {
  const answer = await bundle(bundleRequestSchema.parse(await json(process.stdin)));
  writeSync(3, JSON.stringify(answer));
}

async function bundle({ entryFile, outputFile, portableFrom }: BundleRequest): Promise<BundleAnswer> {
  const errors: string[] = [];
  const files = { dependencies: new Set<string>(), missing: new Set<string>() };
  try {
    const { code } = await bundleWorkflowCode({
      workflowsPath: entryFile,
      workflowInterceptorModules: [INTERCEPTORS_FILE],
      // Webpack's own words go to the logger only; the thrown error says "finished with errors".
      logger: new DefaultLogger("ERROR", ({ message }) => void errors.push(message)),
      webpackConfigHook: (config) => ({
        ...config,
        ...(portableFrom === undefined ? {} : portable(config, portableFrom)),
        resolve: {
          ...config.resolve,
          modules: [...(config.resolve?.modules ?? []), packagesDirectory()],
          // One copy each, the worker's: two in one bundle do not know each other's workflows.
          alias: { ...config.resolve?.alias, ...temporalAliases() },
          symlinks: portableFrom === undefined,
        },
        // Pushed code is files alone, and of what lies above nothing may be read.
        resolveLoader: { ...config.resolveLoader, symlinks: portableFrom === undefined },
        plugins: [
          ...(config.plugins ?? []),
          ...(portableFrom === undefined ? [] : [portableIds(portableFrom)]),
          (compiler) => {
            compiler.hooks.done.tap("osp-dependencies", ({ compilation }) => {
              for (const file of compilation.fileDependencies) files.dependencies.add(file);
              for (const file of compilation.missingDependencies) files.missing.add(file);
            });
          },
        ],
      }),
    });
    writeFileSync(outputFile, code);
    return { problems: [], dependencies: [...files.dependencies], missing: [...files.missing] };
  } catch (error) {
    const problem = `workflows cannot be bundled: ${errors.length > 0 ? webpackErrors(errors) : describeError(error)}`;
    return { problems: [problem], dependencies: [], missing: [] };
  }
}

/** The worker's own packages: the entry lies in a temporary directory from which none can be seen. */
function packagesDirectory(): string {
  return resolve(dirname(createRequire(import.meta.url).resolve("@temporalio/workflow/package.json")), "../..");
}

function temporalAliases(): Record<string, string> {
  return Object.fromEntries(
    ["@temporalio/workflow", "@temporalio/common"].map((name) => [name, resolve(packagesDirectory(), name)]),
  );
}

type WebpackConfig = Parameters<NonNullable<Parameters<typeof bundleWorkflowCode>[0]["webpackConfigHook"]>>[0];
type WebpackPlugin = Extract<NonNullable<WebpackConfig["plugins"]>[number], (...given: never[]) => unknown>;

/** Without absolute paths, which the sources and the name of the output would bring in. */
function portable(config: WebpackConfig, directory: string): Partial<WebpackConfig> {
  return {
    // Lines, no columns: in the entry, which names the workflows by their path, those would differ.
    devtool: "inline-nosources-cheap-module-source-map",
    output: {
      ...config.output,
      pathinfo: false,
      filename: "workflow-bundle.js",
      devtoolModuleFilenameTemplate: ({ absoluteResourcePath }: { absoluteResourcePath: string }) =>
        portableName(absoluteResourcePath, directory),
    },
    module: {
      ...config.module,
      // As the SDK has it for .js: where the module itself was made of others, positions are theirs.
      rules: [...(config.module?.rules ?? []), { test: /\.mjs$/, enforce: "pre", use: [sourceMapLoader()] }],
    },
  };
}

/** Webpack's own ids are paths relative to wherever it runs. */
function portableIds(directory: string): WebpackPlugin {
  return (compiler) => {
    compiler.hooks.compilation.tap("osp-portable-ids", ({ hooks, chunkGraph }) => {
      hooks.moduleIds.tap("osp-portable-ids", (modules) => {
        for (const module of modules) chunkGraph.setModuleId(module, portableName(module.identifier(), directory));
      });
    });
  };
}

/** @param path of a file, or an identifier of webpack's that holds some: loaders before it, "ignored|<context>|<request>" */
function portableName(path: string, directory: string): string {
  const file = path.split("!").at(-1) ?? path;
  return file.replaceAll(directory + sep, "").replaceAll(packagesDirectory(), "node_modules")
    .replaceAll(dirname(INTERCEPTORS_FILE), "osp");
}

function sourceMapLoader(): string {
  return createRequire(createRequire(import.meta.url).resolve("@temporalio/worker")).resolve("source-map-loader");
}

/** Webpack's report without its list of assets and modules, on one line. */
function webpackErrors(reports: string[]): string {
  const text = reports.join("\n").replace(/\u001b\[\d*m/g, "");
  const errors = text.slice(Math.max(0, text.indexOf("\nERROR in ")));
  const line = errors.replace(/\s+/g, " ").trim();
  return line.length <= 2_000 ? line : `${line.slice(0, 2_000)}…`;
}
