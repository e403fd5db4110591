import { createRequire, registerHooks } from "node:module";
import { pathToFileURL } from "node:url";
import { workerProgram } from "./program.ts";

let isShared = false;

const IN_PROGRAM = "osp-program:";

/**
 * From here on every import of `@temporalio/*` finds the worker's copy. A service's code may lie where no such package
 * is, or bring a copy of its own, in which `Context.current()` would find no activity. A file within a package that the program holds is the
 * one on the disk.
 */
export function shareTemporalPackages(): void {
  if (isShared) return;
  isShared = true;
  const packages = workerProgram()?.packages ?? {};
  const find = finderFromHere();
  registerHooks({
    resolve(specifier, context, nextResolve) {
      if (Object.hasOwn(packages, specifier)) return { url: `${IN_PROGRAM}${specifier}`, shortCircuit: true };
      const file = specifier.startsWith("@temporalio/") ? find(specifier) : undefined;
      return file === undefined
        ? nextResolve(specifier, context)
        : { url: pathToFileURL(file).href, shortCircuit: true };
    },
    load(url, context, nextLoad) {
      const name = url.startsWith(IN_PROGRAM) ? url.slice(IN_PROGRAM.length) : undefined;
      const load = name === undefined ? undefined : packages[name];
      if (load === undefined) return nextLoad(url, context);
      return {
        format: "module",
        source: moduleOf(`globalThis.ospProgram.packages[${JSON.stringify(name)}]()`, load()),
        shortCircuit: true,
      };
    },
  });
}

/** What a `require` of the worker finds, if anything: one that a service has alone it finds by itself. */
function finderFromHere(): (specifier: string) => string | undefined {
  const { resolve } = createRequire(import.meta.url);
  let isFinding = false;
  return (specifier) => {
    if (isFinding) return undefined; // asked by ourselves, for hooks hear of that too
    isFinding = true;
    try {
      return resolve(specifier);
    } catch {
      return undefined;
    } finally {
      isFinding = false;
    }
  };
}

/** A module of what an expression has: Node finds the names of exports in the source alone. */
function moduleOf(expression: string, values: object): string {
  const names = Object.keys(values).filter((name) => /^\w+$/.test(name) && name !== "default");
  return [
    `const all = ${expression};`,
    "export default all;",
    `export { all as "module.exports" };`, // what a `require` gives
    ...names.map((name, index) => `const _${index} = all.${name}; export { _${index} as ${name} };`),
  ].join("\n");
}
