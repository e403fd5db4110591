import {
  type ActivityQueue,
  activityQueuesOf,
  type Manifest,
  type ManifestWorkflow,
  workflowsByTaskQueue,
} from "../supabase/functions/_shared/manifest.ts";
import { CodePathError, findModule, type ModuleFile } from "./code-root.ts";
import { EXIT_CODES, WorkerExitError } from "./exit.ts";
import { type Activities, checkOwnActivities, createHttpActivities, loadOwnActivities } from "./load-activities.ts";
import type { Log } from "./log.ts";
import { builtInInstead, findPushedCode, isPushedPath, type PushedCode } from "./pushed-code.ts";
import { routeActivities } from "./route-activities.ts";
import { createPlanActivities } from "./service/activities.ts";
import type { Caller } from "./service/post-activity.ts";
import { bundleBuiltInWorkflows, bundleOwnWorkflows, bundlePushedWorkflows } from "./workflow-bundles.ts";

/** All that polling one task queue takes; everything in it was found and checked. */
export interface ServiceQueue {
  taskQueue: string;
  /** File with the bundled workflows. */
  bundlePath: string;
  activities: Activities;
  /** Its activities are posted to endpoints; else they are own code. */
  isPosted: boolean;
  /** Polled beside it, each for one of its activities. */
  apart: ActivityQueue[];
}

export interface ServiceToLoad {
  manifest: Manifest;
  codeRoot: string;
  cacheDirectory: string;
  /** How long an activity waits on a task queue of its own until it is scheduled anew, at first. */
  limitedWaitSeconds: number;
  log: Log;
  /** Validate only: foreign code is not loaded into this process. */
  isCheck: boolean;
  /** Posts activities to their endpoints. */
  caller: Caller;
}

/** What the manifest names, as far as it was found. */
interface FoundModules {
  /** By the name that the manifest gives. */
  modules: Map<string, ModuleFile>;
  pushed: PushedCode | undefined;
}

/**
 * Finds and checks all that the manifest names: modules, exports, the endpoint.
 *
 * @throws {WorkerExitError} listing every problem: nothing polls before all of it is right
 */
export async function loadService(service: ServiceToLoad): Promise<ServiceQueue[]> {
  const { manifest, codeRoot, cacheDirectory, log } = service;
  const problems: string[] = [];
  const found = await findModules(manifest, codeRoot, problems);
  const activities = await loadActivities(service, found, problems);
  const isPosted = found.modules.get(manifest.activities_path)?.kind === "built-in";
  const queues: ServiceQueue[] = [];
  for (const [taskQueue, workflows] of workflowsByTaskQueue(manifest)) {
    const bundle = await bundleWorkflows({ ...found, workflows, codeRoot, cacheDirectory });
    problems.push(...bundle.problems);
    if (bundle.unverified !== undefined) {
      log.warn({ event: "worker.exports_unverified", task_queue: taskQueue, reason: bundle.unverified });
    }
    const apart = activityQueuesOf(manifest, taskQueue);
    queues.push({
      taskQueue,
      bundlePath: bundle.problems.length > 0
        ? bundle.path
        : await routeActivities(bundle.path, taskQueue, apart, service),
      activities: activitiesOf(workflows, activities),
      isPosted,
      apart,
    });
  }
  if (problems.length > 0) throw new WorkerExitError(EXIT_CODES.unusable, problems);
  return queues;
}

/** Each module that the manifest names; those that cannot be found become problems. */
async function findModules(manifest: Manifest, codeRoot: string, problems: string[]): Promise<FoundModules> {
  const modules = new Map<string, ModuleFile>();
  const orProblem = async <Found>(path: string, find: () => Promise<Found>): Promise<Found | undefined> => {
    try {
      return await find();
    } catch (error) {
      if (!(error instanceof CodePathError)) throw error;
      problems.push(`${path}: ${error.message}`);
      return undefined;
    }
  };
  const pushed = await orProblem("options.code", () => findPushedCode(manifest, codeRoot));
  // Without the code itself nothing of it is there: told once.
  if (manifest.options.code !== undefined && pushed === undefined) return { modules, pushed };
  const named = [
    { path: "activities_path", name: manifest.activities_path },
    ...manifest.workflows.map((workflow, index) => ({
      path: `workflows[${index}].workflows_path`,
      name: workflow.workflows_path,
    })),
  ];
  for (const { path, name } of named) {
    if (modules.has(name)) continue;
    const module = await orProblem(path, () => findNamed(codeRoot, name, pushed));
    if (module !== undefined) modules.set(name, module);
  }
  return { modules, pushed };
}

async function findNamed(codeRoot: string, name: string, pushed: PushedCode | undefined): Promise<ModuleFile> {
  if (pushed === undefined || !isPushedPath(name)) return await findModule(codeRoot, name);
  const builtIn = builtInInstead(name, pushed);
  if (builtIn !== undefined) return await findModule(codeRoot, builtIn);
  return { ...await findModule(codeRoot, name), kind: "pushed" };
}

async function loadActivities(
  { manifest, log, isCheck, caller }: ServiceToLoad,
  { modules, pushed }: FoundModules,
  problems: string[],
): Promise<Activities> {
  const module = modules.get(manifest.activities_path);
  if (module === undefined) return {};
  const names = new Set(manifest.workflows.flatMap((workflow) => workflow.activities));
  if (isCheck && module.kind !== "built-in") {
    const known = module.kind === "pushed" ? pushed?.description.activities : undefined;
    const checked = await checkOwnActivities(module, names, known);
    problems.push(...checked.problems);
    if (checked.unverified !== undefined) {
      log.warn({ event: "worker.exports_unverified", reason: checked.unverified });
    }
    return {};
  }
  const loaded = module.kind === "built-in"
    ? createHttpActivities(manifest, names, caller)
    : await loadOwnActivities(module, names);
  problems.push(...loaded.problems);
  const runsPlans = manifest.workflows.some(({ workflows_path }) => modules.get(workflows_path)?.kind === "built-in");
  if (runsPlans) Object.assign(loaded.activities, createPlanActivities(manifest, module.kind === "built-in"));
  return loaded.activities;
}

interface QueueCode extends FoundModules {
  workflows: ManifestWorkflow[];
  codeRoot: string;
  cacheDirectory: string;
}

async function bundleWorkflows({ workflows, modules, pushed, codeRoot, cacheDirectory }: QueueCode) {
  const exported = workflows.flatMap(({ name, workflows_path }) => {
    const module = modules.get(workflows_path);
    return module === undefined ? [] : [{ name, module }];
  });
  if (exported.every(({ module }) => module.kind === "built-in")) {
    return { path: await bundleBuiltInWorkflows(cacheDirectory), problems: [], unverified: undefined };
  }
  if (pushed !== undefined && exported.every(({ module }) => module.kind === "pushed")) {
    return await bundlePushedWorkflows(exported, pushed, cacheDirectory);
  }
  return await bundleOwnWorkflows(exported, codeRoot, cacheDirectory);
}

/** What one queue's workflows may call; the rest of the service's activities stays with the other queues. */
function activitiesOf(workflows: ManifestWorkflow[], all: Activities): Activities {
  const names = [...workflows.flatMap(({ activities }) => activities), "__osp_plan", "default"];
  const entries = names.flatMap((name) => (Object.hasOwn(all, name) ? [[name, all[name]] as const] : []));
  return Object.fromEntries(entries);
}
