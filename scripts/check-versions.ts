// Checks that Deno and Node get the same versions: a function's deno.json is what Supabase deploys, package.json is what
// everything else runs, and only the pins in both keep them alike. Also that package-lock.json installs from any registry.
import { globSync, readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";
import { z } from "zod";

const packageSchema = z.object({
  dependencies: z.record(z.string(), z.string()),
  devDependencies: z.record(z.string(), z.string()),
});
const denoSchema = z.object({ imports: z.record(z.string(), z.string()).default({}) });
const exactVersion = /^\d+\.\d+\.\d+(-[\w.]+)?$/;

/** Every version as package.json pins it, by package name. */
type Pins = Record<string, string>;

/** Versions in package.json that are ranges. Pure. */
export function rangeProblems(pins: Pins): string[] {
  return Object.entries(pins)
    .filter(([, version]) => !exactVersion.test(version))
    .map(([name, version]) => `package.json: ${name} is "${version}": pin one exact version`);
}

/** Imports of one deno.json that differ from package.json's pins. Pure. */
export function denoProblems(path: string, imports: Record<string, string>, pins: Pins): string[] {
  return Object.entries(imports).flatMap(([alias, target]) => {
    const npm = /^npm:\/?(?<name>(?:@[^/]+\/)?[^@/]+)(?:@(?<version>[^/]+))?/.exec(target)?.groups;
    if (npm === undefined) {
      return target.startsWith(".") ? [] : [`${path}: "${alias}" is "${target}": use npm:name@version`];
    }
    const { name = "", version } = npm;
    if (pins[name] === version && version !== undefined) return [];
    return [`${path}: "${alias}" is "${target}", but package.json has ${name} ${pins[name] ?? "not at all"}`];
  });
}

/** What ties package-lock.json to the registry of the machine that wrote it. Pure. */
export function lockProblems(lock: string): string[] {
  const resolved = lock.split("\n").filter((line) => /"resolved":\s*"https?:/.test(line));
  return resolved.length === 0 ? [] : [
    `package-lock.json: ${resolved.length} entries name a host in "resolved": ` +
    `run npm install with the .npmrc of this repository (omit-lockfile-registry-resolved)`,
  ];
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  const { dependencies, devDependencies } = packageSchema.parse(JSON.parse(readFileSync("package.json", "utf8")));
  const pins = { ...dependencies, ...devDependencies };
  const problems = [
    ...rangeProblems(pins),
    ...globSync("supabase/functions/*/deno.json").flatMap((path) =>
      denoProblems(path, denoSchema.parse(JSON.parse(readFileSync(path, "utf8"))).imports, pins)
    ),
    ...lockProblems(readFileSync("package-lock.json", "utf8")),
  ];
  for (const problem of problems) console.log(problem);
  process.exitCode = problems.length === 0 ? 0 : 1;
}
