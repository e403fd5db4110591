import { existsSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, join, parse, resolve } from "node:path";
import { z } from "zod";
import { type IsolatedEnd, runIsolated } from "../../host/isolated-node.ts";
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
  rootDir: parse(packages).root,
  // The service's code is what is asked about; its packages were written for other versions of TypeScript.
  skipLibCheck: true,
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
  const project = join(scratch, "tsconfig.json");
  const tsc = async (args: string[]) =>
    await runIsolated({
      script: TSC,
      args: [...args, "--pretty", "false"],
      cwd: directory,
      timeoutMs: TYPE_CHECK_MS,
      ...(signal === undefined ? {} : { signal }),
    });
  const own = join(directory, "tsconfig.json");
  if (existsSync(own)) {
    const shown = await tsc(["-p", own, "--showConfig"]);
    if (shown.code !== 0) return problemsOf(shown);
    await writeFile(project, JSON.stringify({ ...ownConfig(own, directory, shown.stdout), files }));
  } else {
    await writeFile(project, JSON.stringify({ compilerOptions: { ...OUR_OPTIONS, ...FORCED_OPTIONS }, files }));
  }
  const end = await tsc(["-p", project]);
  return end.code === 0 ? [] : problemsOf(end);
}

const shownSchema = z.object({
  compilerOptions: z.object({ types: z.array(z.string()).optional(), typeRoots: z.array(z.string()).optional() })
    .default(
      {},
    ),
});

/** The service's own, as it would count where it lies: types that it does not name are looked for from its file on. */
function ownConfig(own: string, directory: string, shown: string): object {
  const { types = ["node"], typeRoots } = shownSchema.parse(JSON.parse(shown)).compilerOptions;
  const roots = typeRoots?.map((root) => resolve(directory, root)) ?? [
    ...directoriesFrom(directory).map((above) => join(above, "node_modules", "@types")),
    join(packages, "@types"),
  ];
  return {
    extends: own,
    compilerOptions: { ...FORCED_OPTIONS, types, typeRoots: roots.filter((root) => existsSync(root)) },
    include: [],
    references: [],
  };
}

/** The directory and all above it. */
function directoriesFrom(directory: string): string[] {
  const above = dirname(directory);
  return above === directory ? [directory] : [directory, ...directoriesFrom(above)];
}

/** What TypeScript has to say, one message each: what explains it stands below, set in. */
function problemsOf({ isLate, stdout, stderr, code, signal }: IsolatedEnd): string[] {
  if (isLate) return [`TypeScript is not done after ${TYPE_CHECK_MS / 1000} s`];
  const found = stdout.trim().split(/\n(?!\s)/).filter((message) => message.trim() !== "")
    .map((message) => message.replace(/\s*\n\s*/g, " "));
  return found.length > 0 ? found : [`TypeScript ends with ${signal ?? code}: ${stderr.trim()}`];
}
