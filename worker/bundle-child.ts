/**
 * Bundles workflows and looks at what came out, in a process of its own: webpack's 120 MB go back to the machine, and
 * foreign code is evaluated where no credential is in the environment. Request on stdin, answer on stdout, both JSON.
 */
import { writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, resolve } from "node:path";
import { json } from "node:stream/consumers";
import { bundleWorkflowCode, DefaultLogger } from "@temporalio/worker";
import { z } from "zod";
import { checkBundle } from "./check-bundle.ts";
import { describeError } from "./exit.ts";

export const bundleRequestSchema = z.object({
  entryFile: z.string(),
  outputFile: z.string(),
  /** Names that the bundle must export, with the module each comes from. */
  expected: z.array(z.object({ name: z.string(), module: z.string() })),
});
export type BundleRequest = z.infer<typeof bundleRequestSchema>;

export const bundleAnswerSchema = z.object({
  problems: z.array(z.string()),
  unverified: z.string().optional(),
  /** Absolute paths of all files that were read. */
  dependencies: z.array(z.string()),
  /** Absolute paths that were looked for and not found: a file that appears there changes the bundle. */
  missing: z.array(z.string()),
});
export type BundleAnswer = z.infer<typeof bundleAnswerSchema>;

if (import.meta.main) {
  const answer = await bundle(bundleRequestSchema.parse(await json(process.stdin)));
  process.stdout.write(JSON.stringify(answer));
}

async function bundle({ entryFile, outputFile, expected }: BundleRequest): Promise<BundleAnswer> {
  const errors: string[] = [];
  const files = { dependencies: new Set<string>(), missing: new Set<string>() };
  try {
    const { code } = await bundleWorkflowCode({
      workflowsPath: entryFile,
      // Webpack's own words go to the logger only; the thrown error says "finished with errors".
      logger: new DefaultLogger("ERROR", ({ message }) => void errors.push(message)),
      webpackConfigHook: (config) => ({
        ...config,
        resolve: {
          ...config.resolve,
          modules: [...(config.resolve?.modules ?? []), packagesDirectory()],
          // One copy each, the worker's: two in one bundle do not know each other's workflows.
          alias: { ...config.resolve?.alias, ...temporalAliases() },
        },
        plugins: [
          ...(config.plugins ?? []),
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
    const checked = checkBundle(code, expected);
    return { ...checked, dependencies: [...files.dependencies], missing: [...files.missing] };
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

/** Webpack's report without its list of assets and modules, on one line. */
function webpackErrors(reports: string[]): string {
  const text = reports.join("\n").replace(/\u001b\[\d*m/g, "");
  const errors = text.slice(Math.max(0, text.indexOf("\nERROR in ")));
  const line = errors.replace(/\s+/g, " ").trim();
  return line.length <= 2_000 ? line : `${line.slice(0, 2_000)}…`;
}
