import { fileURLToPath } from "node:url";
import { PROBE_WORKFLOW } from "../supabase/functions/_shared/service-code.ts";
import type { ModuleFile } from "./code-root.ts";

/** A workflow of one queue and the module that exports it. */
export interface WorkflowExport {
  name: string;
  module: ModuleFile;
}

/** The workflow by which the deployer proves that a worker works. */
export const PROBE_FILE = fileURLToPath(new URL("./service/probe.ts", import.meta.url));

/** What every workflow is run through; no import of it stands in an entry. */
export const INTERCEPTORS_FILE = fileURLToPath(new URL("./service/activity-queues.ts", import.meta.url));

/** The modules of an entry by their manifest names, for messages: what does this module export? */
export const MODULES_EXPORT = "__osp_modules";

/**
 * The module from which one queue's workflows are bundled: each exported under its manifest name, nothing else, for an
 * export named `default` would accept any type.
 *
 * Namespaces and not `export { x } from`: webpack's error for a missing name stops at CommonJS, and evaluating the
 * bundle finds all of them (see check-bundle.ts).
 */
export function workflowEntry(exported: readonly WorkflowExport[]): string {
  const modules = [...new Map(exported.map(({ module }) => [module.file, module])).values()];
  const variableOf = new Map(modules.map((module, index) => [module.file, `module${index}`]));
  return [
    ...modules.map(({ file }) => `import * as ${variableOf.get(file)} from ${JSON.stringify(file)};`),
    `const pick = (namespace, name) => namespace[name] ?? namespace.default?.[name];`,
    ...exported.flatMap(({ name, module }, index) => {
      const variable = variableOf.get(module.file);
      // The built-in module has one workflow for every name.
      const value = module.kind === "built-in" ? `${variable}.default` : `pick(${variable}, ${JSON.stringify(name)})`;
      return [`const workflow${index} = ${value};`, `export { workflow${index} as ${JSON.stringify(name)} };`];
    }),
    `export { ${PROBE_WORKFLOW} } from ${JSON.stringify(PROBE_FILE)};`,
    `export const ${MODULES_EXPORT} = {`,
    ...modules.map(({ name, file }) => `  ${JSON.stringify(name)}: ${variableOf.get(file)},`),
    `};`,
  ].join("\n");
}

/** The one bundle of all services without code: a dynamic workflow that takes every type. */
export function builtInEntry(workflowsFile: string): string {
  return [
    `export { default } from ${JSON.stringify(workflowsFile)};`,
    `export { ${PROBE_WORKFLOW} } from ${JSON.stringify(PROBE_FILE)};`,
  ].join("\n");
}
