import { type Manifest, type ManifestWorkflow, workflowsByTaskQueue } from "../supabase/functions/_shared/manifest.ts";
import { CodePathError, findModule, type ModuleFile } from "./code-root.ts";
import { EXIT_CODES, WorkerExitError } from "./exit.ts";
import { type Activities, createHttpActivities, loadOwnActivities } from "./load-activities.ts";
import type { Log } from "./log.ts";
import { createPlanActivities } from "./service/activities.ts";
import type { Caller } from "./service/post-activity.ts";
import { bundleBuiltInWorkflows, bundleOwnWorkflows } from "./workflow-bundles.ts";

/** All that polling one task queue takes; everything in it was found and checked. */
export interface ServiceQueue {
  taskQueue: string;
  /** File with the bundled workflows. */
  bundlePath: string;
  activities: Activities;
  /** Its activities are posted to endpoints; else they are own code. */
  isPosted: boolean;
}

/**
 * Finds and checks all that the manifest names: modules, exports, the endpoint.
 *
 * @throws {WorkerExitError} listing every problem: nothing polls before all of it is right
 */
export async function loadService(
  manifest: Manifest,
  codeRoot: string,
  cacheDirectory: string,
  log: Log,
  caller: Caller,
): Promise<ServiceQueue[]> {
  const problems: string[] = [];
  const modules = await findModules(manifest, codeRoot, problems);
  const activities = await loadActivities(manifest, modules, problems, caller);
  const isPosted = modules.get(manifest.activities_path)?.kind === "built-in";
  const queues: ServiceQueue[] = [];
  for (const [taskQueue, workflows] of workflowsByTaskQueue(manifest)) {
    const bundle = await bundleWorkflows({ workflows, modules, codeRoot, cacheDirectory });
    problems.push(...bundle.problems);
    if (bundle.unverified !== undefined) {
      log.warn({ event: "worker.exports_unverified", task_queue: taskQueue, reason: bundle.unverified });
    }
    queues.push({ taskQueue, bundlePath: bundle.path, activities: activitiesOf(workflows, activities), isPosted });
  }
  if (problems.length > 0) throw new WorkerExitError(EXIT_CODES.unusable, problems);
  return queues;
}

/** Each module that the manifest names, by that name; those that cannot be found become problems. */
async function findModules(
  manifest: Manifest,
  codeRoot: string,
  problems: string[],
): Promise<Map<string, ModuleFile>> {
  const modules = new Map<string, ModuleFile>();
  const named = [
    { path: "activities_path", name: manifest.activities_path },
    ...manifest.workflows.map((workflow, index) => ({
      path: `workflows[${index}].workflows_path`,
      name: workflow.workflows_path,
    })),
  ];
  for (const { path, name } of named) {
    if (modules.has(name)) continue;
    try {
      modules.set(name, await findModule(codeRoot, name));
    } catch (error) {
      if (!(error instanceof CodePathError)) throw error;
      problems.push(`${path}: ${error.message}`);
    }
  }
  return modules;
}

async function loadActivities(
  manifest: Manifest,
  modules: Map<string, ModuleFile>,
  problems: string[],
  caller: Caller,
): Promise<Activities> {
  const module = modules.get(manifest.activities_path);
  if (module === undefined) return {};
  const names = new Set(manifest.workflows.flatMap((workflow) => workflow.activities));
  const loaded = module.kind === "built-in"
    ? createHttpActivities(manifest, names, caller)
    : await loadOwnActivities(module, names);
  problems.push(...loaded.problems);
  const runsPlans = manifest.workflows.some(({ workflows_path }) => modules.get(workflows_path)?.kind === "built-in");
  if (runsPlans) Object.assign(loaded.activities, createPlanActivities(manifest, module.kind === "built-in"));
  return loaded.activities;
}

interface QueueCode {
  workflows: ManifestWorkflow[];
  modules: Map<string, ModuleFile>;
  codeRoot: string;
  cacheDirectory: string;
}

async function bundleWorkflows({ workflows, modules, codeRoot, cacheDirectory }: QueueCode) {
  const exported = workflows.flatMap(({ name, workflows_path }) => {
    const module = modules.get(workflows_path);
    return module === undefined ? [] : [{ name, module }];
  });
  if (exported.every(({ module }) => module.kind === "built-in")) {
    return { path: await bundleBuiltInWorkflows(cacheDirectory), problems: [], unverified: undefined };
  }
  return await bundleOwnWorkflows(exported, codeRoot, cacheDirectory);
}

/** What one queue's workflows may call; the rest of the service's activities stays with the other queues. */
function activitiesOf(workflows: ManifestWorkflow[], all: Activities): Activities {
  const names = [...workflows.flatMap(({ activities }) => activities), "__osp_plan", "default"];
  const entries = names.flatMap((name) => (Object.hasOwn(all, name) ? [[name, all[name]] as const] : []));
  return Object.fromEntries(entries);
}
