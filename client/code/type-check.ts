import { existsSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { runIsolated } from "../../host/isolated-node.ts";
import type { ServiceSources } from "./service-sources.ts";

const packages = dirname(dirname(createRequire(import.meta.url).resolve("typescript/package.json")));
const TSC = join(packages, "typescript", "bin", "tsc");
const TYPE_CHECK_MS = 120_000;

/** What a service's TypeScript is checked by where it brings no tsconfig.json: strict, for Node 24 and a bundler. */
const OUR_OPTIONS = {
  target: "es2024",
  lib: ["es2025", "esnext.disposable", "dom", "dom.iterable"],
  module: "preserve",
  moduleResolution: "bundler",
  strict: true,
  isolatedModules: true,
  resolveJsonModule: true,
  skipLibCheck: true,
  types: ["node"],
  // The worker's own packages, which is what the code runs with.
  typeRoots: [join(packages, "@types")],
  paths: { "@temporalio/*": [join(packages, "@temporalio", "*")] },
};

/** Of a service's own tsconfig.json only what would make files, or refuse what the bundler takes, is not heeded. */
const FORCED_OPTIONS = {
  noEmit: true,
  allowImportingTsExtensions: true,
  composite: false,
  incremental: false,
  declaration: false,
  declarationMap: false,
  emitDeclarationOnly: false,
};

/**
 * Problems that the pinned TypeScript finds in the modules that are pushed and all that they import; none for JavaScript. A
 * tsconfig.json of the service's own counts instead of ours, together with the packages that it has installed.
 *
 * @param scratch directory for files of ours
 */
export async function typeCheck(
  { directory, workflows, activities }: ServiceSources,
  scratch: string,
  signal: AbortSignal | undefined,
): Promise<string[]> {
  const files = [workflows, activities].filter((file) => file !== undefined && /\.(ts|mts|tsx)$/.test(file))
    .map((file) => join(directory, file ?? ""));
  if (files.length === 0) return [];
  const own = join(directory, "tsconfig.json");
  const config = existsSync(own)
    ? { extends: own, compilerOptions: FORCED_OPTIONS, files, include: [], references: [] }
    : { compilerOptions: { ...OUR_OPTIONS, ...FORCED_OPTIONS }, files };
  const project = join(scratch, "tsconfig.json");
  await writeFile(project, JSON.stringify(config));
  const end = await runIsolated({
    script: TSC,
    args: ["-p", project, "--pretty", "false"],
    cwd: directory,
    timeoutMs: TYPE_CHECK_MS,
    ...(signal === undefined ? {} : { signal }),
  });
  if (end.code === 0) return [];
  if (end.isLate) return [`TypeScript is not done after ${TYPE_CHECK_MS / 1000} s`];
  const found = messagesOf(end.stdout);
  return found.length > 0 ? found : [`TypeScript ends with ${end.signal ?? end.code}: ${end.stderr.trim()}`];
}

/** One message each: what explains it stands below, set in. */
function messagesOf(output: string): string[] {
  return output.trim().split(/\n(?!\s)/).filter((message) => message.trim() !== "")
    .map((message) => message.replace(/\s*\n\s*/g, " "));
}
