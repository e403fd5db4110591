import { z } from "zod";
import { formatProblems, type Problem, problemsOf } from "./problems.ts";
import { codeName, serviceSchemaName } from "./names.ts";
import {
  type ActivityLimits,
  limitsOfActivity,
  refuseUnusedActivities,
  resolvedOptionsSchema,
} from "./service-options.ts";
import { holdsControl, holdsHidden } from "./visible-text.ts";

/** Paths of the modules that run a service without code of its own. A frozen contract: stored manifests name them. */
export const BUILT_IN_ACTIVITIES_PATH = "./service/activities.ts";
export const BUILT_IN_WORKFLOWS_PATH = "./service/workflows.ts";

/** What a manifest says besides names: it may hold anything that shows. */
const plainText = (longest: number) =>
  z.string().min(1).max(longest).refine(
    (text) => text.isWellFormed() && !holdsControl(text) && !holdsHidden(text),
    "must not hold control characters, nor any that turn text around or hide",
  );

const modulePath = plainText(512)
  .regex(/\.(ts|js|mjs|cjs)$/, "must end in .ts, .js, .mjs or .cjs")
  .refine(
    (path) => !/^[/\\]|^[A-Za-z][A-Za-z0-9+.-]*:|\\/.test(path) && !path.split("/").includes(".."),
    "must be a relative path inside the code root, without ..",
  );

const workflowSchema = z.strictObject({
  name: codeName,
  task_queue: plainText(200),
  workflows_path: modulePath,
  activities: z.array(codeName).min(1).max(100),
});

/**
 * What a worker runs from: one JSON document per revision, immutable. The only definition of this shape.
 *
 * Only what the first manifests lacked has a default: version, revision and options.
 */
export const manifestSchema = z.strictObject({
  manifest_version: z.literal(1).default(1),
  service_schema: serviceSchemaName,
  // Revisions are older than the rule of today.
  service_name: z.string().min(1).refine((name) => name.isWellFormed(), "must not hold half a character"),
  revision: z.int().min(1).default(1),
  activities_path: modulePath,
  workflows: z.array(workflowSchema).min(1).max(100),
  options: resolvedOptionsSchema.prefault({}),
}).superRefine((manifest, context) => {
  const seen = new Set<string>();
  manifest.workflows.forEach(({ name }, index) => {
    if (seen.has(name)) {
      context.addIssue({ code: "custom", path: ["workflows", index, "name"], message: "stands twice" });
    }
    seen.add(name);
  });
  refuseUnusedActivities(manifest, context);
  const queues = [...workflowsByTaskQueue(manifest).keys()];
  const apart = new Set(queues.flatMap((queue) => activityQueuesOf(manifest, queue).map(({ taskQueue }) => taskQueue)));
  manifest.workflows.forEach(({ task_queue }, index) => {
    if (!apart.has(task_queue)) return;
    const message = "is the task queue of an activity that has limits of its own";
    context.addIssue({ code: "custom", path: ["workflows", index, "task_queue"], message });
  });
});
export type Manifest = z.infer<typeof manifestSchema>;
export type ManifestWorkflow = Manifest["workflows"][number];

/** The manifest is wrong as written: retrying cannot help, its author must edit it. */
export class ManifestInvalidError extends Error {
  override readonly name = "ManifestInvalidError";
  readonly problems: readonly Problem[];

  constructor(source: string, problems: readonly Problem[], options?: ErrorOptions) {
    super(`Cannot use manifest ${source}: ${formatProblems(problems)}`, options);
    this.problems = problems;
  }
}

/** For what a process reads once, as a worker its manifest: code that zod makes to be quicker the next time takes longer than reading it. */
export const READ_ONCE = { jitless: true };

/** @throws {ManifestInvalidError} listing every problem, not only the first */
export function parseManifest(source: string, input: unknown): Manifest {
  const parsed = manifestSchema.safeParse(input, READ_ONCE);
  if (parsed.success) return parsed.data;
  throw new ManifestInvalidError(source, problemsOf(parsed.error, input), { cause: parsed.error });
}

/** Whether it names the worker's own modules alone. */
export function isBuiltIn({ activities_path, workflows }: Manifest): boolean {
  return activities_path === BUILT_IN_ACTIVITIES_PATH &&
    workflows.every(({ workflows_path }) => workflows_path === BUILT_IN_WORKFLOWS_PATH);
}

/** Where a worker finds its manifest, relative to the code root; also the name of its mirror in the bucket. */
export function manifestPath(serviceSchema: string): string {
  return `manifests/${serviceSchema}.json`;
}

/** The task queue that a service's worker polls. */
export function taskQueueOf(serviceSchema: string): string {
  return `${serviceSchema}-tasks`;
}

/** The task queue of an activity that has limits of its own, which Temporal knows by queue alone. */
export interface ActivityQueue {
  taskQueue: string;
  activity: string;
  limits: ActivityLimits;
}

/** The queues that are polled beside a task queue of the manifest, each for one activity of its workflows. */
export function activityQueuesOf(
  { workflows, options }: Pick<Manifest, "workflows" | "options">,
  taskQueue: string,
): ActivityQueue[] {
  const ofQueue = workflows.filter(({ task_queue }) => task_queue === taskQueue);
  return [...new Set(ofQueue.flatMap(({ activities }) => activities))].flatMap((activity) => {
    const limits = limitsOfActivity(options, activity);
    return limits === undefined ? [] : [{ taskQueue: `${taskQueue}:${activity}`, activity, limits }];
  });
}

/** Each distinct task queue of a manifest with the workflows that are started on it, in the manifest's order. */
export function workflowsByTaskQueue(manifest: Pick<Manifest, "workflows">): Map<string, ManifestWorkflow[]> {
  return Map.groupBy(manifest.workflows, (workflow) => workflow.task_queue);
}
