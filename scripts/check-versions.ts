// Checks that Deno, Node and the worker's image get the same versions: a function's deno.json is what Supabase deploys,
// worker/image/ what Railway installs, package.json what everything else runs, and only the pins in all keep them alike. Also
// that both lock files install from any registry, and the image's with `npm ci`.
import { globSync, readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";
import { z } from "zod";
import { incompletePackages, type Lock, readLock } from "./package-lock.ts";

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

/** What ties a lock file to the registry of the machine that wrote it. Pure. */
export function lockProblems(path: string, lock: string): string[] {
  const resolved = lock.split("\n").filter((line) => /"resolved":\s*"https?:/.test(line));
  return resolved.length === 0 ? [] : [
    `${path}: ${resolved.length} entries name a host in "resolved": ` +
    `run npm install with the .npmrc of this repository (omit-lockfile-registry-resolved)`,
  ];
}

/** Where the worker's image would get other packages than the tests ran with, or its `npm ci` would refuse. Pure. */
export function imageProblems(pins: Pins, image: { pins: Pins; lock: Lock }, lock: Lock): string[] {
  const mend = "run npm run worker-image";
  const pinned = Object.entries(image.pins).filter(([name, version]) => pins[name] !== version)
    .map(([name, version]) =>
      `worker/image/package.json: ${name} is ${version}, package.json has ${pins[name]}: ${mend}`
    );
  const locked = Object.entries(image.lock.packages)
    .filter(([path, { version }]) => path !== "" && path in lock.packages && lock.packages[path]?.version !== version)
    .map(([path, { version }]) =>
      `worker/image/package-lock.json: ${path} is ${version}, package-lock.json has ${
        lock.packages[path]?.version
      }: ${mend}`
    );
  const missing = incompletePackages(image.lock).map(({ path, missing: names }) =>
    `worker/image/package-lock.json: ${path} lacks ${names.join(", ")}, so npm ci refuses it: ${mend}`
  );
  return [...pinned, ...locked, ...missing];
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  const read = (path: string): unknown => JSON.parse(readFileSync(path, "utf8"));
  const imagePins = packageSchema.pick({ dependencies: true });
  const { dependencies, devDependencies } = packageSchema.parse(read("package.json"));
  const pins = { ...dependencies, ...devDependencies };
  const problems = [
    ...rangeProblems(pins),
    ...globSync("supabase/functions/*/deno.json").flatMap((path) =>
      denoProblems(path, denoSchema.parse(read(path)).imports, pins)
    ),
    ...["package-lock.json", "worker/image/package-lock.json"].flatMap((path) =>
      lockProblems(path, readFileSync(path, "utf8"))
    ),
    ...imageProblems(
      pins,
      {
        pins: imagePins.parse(read("worker/image/package.json")).dependencies,
        lock: readLock("worker/image/package-lock.json"),
      },
      readLock("package-lock.json"),
    ),
  ];
  for (const problem of problems) console.log(problem);
  process.exitCode = problems.length === 0 ? 0 : 1;
}
