// Checks the direction of imports: entry → adapter → core (DESIGN, "Rooms"). oxlint compares how an import is written,
// not which file it means, so it cannot tell rooms apart.
import { readFileSync } from "node:fs";
import { posix } from "node:path";
import { pathToFileURL } from "node:url";
import { allowance } from "./allowance.ts";
import { repositoryFiles } from "./repository-files.ts";

interface Rule {
  /** The files that the rule is about; the first rule that fits a file decides. */
  files: RegExp;
  /** Which packages they may import, by name as written. */
  packages: RegExp;
  /** Which directories of ours they may import from. */
  directories: string[];
  /** Whether types may come from anywhere: they are gone before the file runs. */
  anyTypes?: boolean;
  /** Said of an import that is refused. */
  because: string;
}

const core = "supabase/functions/_shared/";
const anyPackage = /./;

/** To let one room import another is to change this table; for one line, see `allowance`. */
const rules: Rule[] = [
  {
    files: /^supabase\/functions\/_shared\//,
    packages: /^zod$/,
    directories: [core],
    because: "the core imports zod and itself, for it runs in Deno, in Node and in workflows",
  },
  {
    files: /^worker\/service\/workflows\.ts$/,
    packages: /^@temporalio\/workflow$/,
    directories: [core],
    anyTypes: true,
    because: "workflows run in Temporal's sandbox and import @temporalio/workflow, the core and types",
  },
  {
    files: /^host\//,
    packages: /^(node:.+|zod)$/,
    directories: ["host/", core],
    because: "host/ imports node:*, zod, itself and the core",
  },
  ...["deployer/", "worker/", "client/", "local/", "scripts/"].map((room) => ({
    files: new RegExp(`^${room}`),
    packages: anyPackage,
    directories: [room, "host/", core],
    because: `${room} imports itself, host/ and the core: rooms meet there and in SQL, not in each other's files`,
  })),
  {
    files: /^supabase\/functions\/(?!tests\/)/,
    packages: anyPackage,
    directories: ["supabase/functions/"],
    because: "functions import what is under supabase/functions/: nothing else is deployed with them",
  },
];

/** What is wrong with the imports of one file, a line each. Files without a rule, such as tests, import anything. Pure. */
export function importProblems(path: string, source: string): string[] {
  const rule = rules.find(({ files }) => files.test(path));
  if (rule === undefined) return [];
  const lines = source.split("\n");
  return importsOf(source)
    .filter((found) => !isAllowed(found, path, rule) && !allowance.test(lines[found.line - 1] ?? ""))
    .map(({ line, specifier }) => `${path}:${line} must not import "${specifier}": ${rule.because}`);
}

interface Import {
  specifier: string;
  /** Counted from 1; where the specifier stands. */
  line: number;
  typeOnly: boolean;
}

/** `import … from "…"`, `export … from "…"`, `import "…"`, and `import("…")`. */
const importPattern =
  /^[ \t]*(?:import|export)\s+(?<type>type\s)?[\w$*,{}\s]*?from\s*["'](?<from>[^"']+)["']|^[ \t]*import\s*["'](?<bare>[^"']+)["']|\bimport\(\s*["'](?<dynamic>[^"']+)["']/gm;

function importsOf(source: string): Import[] {
  return [...source.matchAll(importPattern)].map(({ 0: text, index, groups = {} }) => ({
    specifier: groups["from"] ?? groups["bare"] ?? groups["dynamic"] ?? "",
    line: source.slice(0, index + text.length).split("\n").length,
    typeOnly: groups["type"] !== undefined,
  }));
}

function isAllowed({ specifier, typeOnly }: Import, path: string, rule: Rule): boolean {
  if (typeOnly && rule.anyTypes) return true;
  if (!specifier.startsWith(".")) return rule.packages.test(specifier);
  const target = posix.join(posix.dirname(path), specifier);
  return rule.directories.some((directory) => target.startsWith(directory));
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  const sources = repositoryFiles().filter((path) => /\.m?ts$/.test(path));
  const problems = sources.flatMap((path) => importProblems(path, readFileSync(path, "utf8")));
  for (const problem of problems) console.log(problem);
  process.exitCode = problems.length === 0 ? 0 : 1;
}
