import { hostname } from "node:os";
import { type NativeConnection, Worker, type WorkerOptions } from "@temporalio/worker";
import { canonicalJson, sha256Hex } from "../supabase/functions/_shared/canonical-json.ts";
import type { Manifest } from "../supabase/functions/_shared/manifest.ts";
import { formatWorkerIdentity } from "../supabase/functions/_shared/worker-identity.ts";
import { type ActivityShare, type Capacity, shareOut } from "./capacity.ts";
import type { ServiceQueue } from "./load-service.ts";
import { workerVersion } from "./worker-version.ts";

export interface WorkerSettings {
  manifest: Manifest;
  queues: ServiceQueue[];
  connection: NativeConnection;
  namespace: string;
  drainSeconds: number;
  /** Of each queue. */
  capacity: Capacity;
}

/** A Temporal Worker and the queue it polls. */
export interface QueueWorker {
  taskQueue: string;
  /** Task types that it polls: a queue may be without activities, and one of a single activity has no workflows. */
  types: readonly ("workflow" | "activity")[];
  worker: Worker;
}

/** Activities that ignore their cancellation get this much longer than the drain time. */
export const FORCE_AFTER_DRAIN_SECONDS = 5;

/**
 * One Temporal Worker for each of the manifest's task queues, and one for each activity with limits of its own, on one connection; none
 * polls yet.
 */
export async function createWorkersFromManifest(settings: WorkerSettings): Promise<QueueWorker[]> {
  const { manifest, queues } = settings;
  const shared = { ...sharedOptions(settings), ...await labels(manifest) };
  return await Promise.all(queues.flatMap((queue) => createWorkersOfQueue(queue, settings, shared)));
}

function createWorkersOfQueue(
  queue: ServiceQueue,
  settings: WorkerSettings,
  shared: Omit<WorkerOptions, "taskQueue">,
): Promise<QueueWorker>[] {
  const { taskQueue, bundlePath, activities, isPosted } = queue;
  const { main, apart } = sharesOf(queue, settings);
  const ofActivities = {
    activities,
    // The SDK would hold heartbeats back for 80 % of their timeout: at the smallest trouble the next one is too late.
    ...(isPosted ? { maxHeartbeatThrottleInterval: HEARTBEAT_MS } : {}),
  };
  const create = async (options: WorkerOptions, types: QueueWorker["types"]): Promise<QueueWorker> => ({
    taskQueue: options.taskQueue,
    types,
    worker: await Worker.create({ ...shared, ...ofActivities, ...options }),
  });
  return [
    create(
      { taskQueue, workflowBundle: { codePath: bundlePath }, ...limitsOf(main) },
      pollsActivities(queue) ? ["workflow", "activity"] : ["workflow"],
    ),
    // Without workflows it has no thread for them: it costs next to nothing.
    ...apart.map(({ taskQueue: own, share }) => create({ taskQueue: own, ...limitsOf(share) }, ["activity"])),
  ];
}

/** What the Temporal Workers of one queue, and of its single activities, may do. */
export function sharesOf(
  { apart }: ServiceQueue,
  { manifest, queues, capacity }: Pick<WorkerSettings, "manifest" | "queues" | "capacity">,
) {
  const withActivities = queues.filter(pollsActivities).length;
  return shareOut(manifest.options, capacity.activities, withActivities, apart);
}

/** Two of these fit into the timeout after which the worker of a posted activity counts as lost (service/activities.ts). */
const HEARTBEAT_MS = 4_000;

function pollsActivities({ activities }: Pick<ServiceQueue, "activities">): boolean {
  return Object.keys(activities).length > 0;
}

/** Few pollers while idle, more under load. */
function sharedOptions({ connection, namespace, drainSeconds, capacity }: WorkerSettings) {
  const pollers = { type: "autoscaling", minimum: 1, initial: 2, maximum: 10 } as const;
  return {
    connection,
    namespace,
    shutdownGraceTime: drainSeconds * 1000,
    shutdownForceTime: (drainSeconds + FORCE_AFTER_DRAIN_SECONDS) * 1000,
    maxCachedWorkflows: capacity.cachedWorkflows,
    maxConcurrentWorkflowTaskExecutions: capacity.workflowTasks,
    maxConcurrentLocalActivityExecutions: capacity.activities,
    workflowTaskPollerBehavior: pollers,
    activityTaskPollerBehavior: pollers,
  } satisfies Partial<WorkerOptions>;
}

function limitsOf({ atOnce, perSecond, ofAllPerSecond }: ActivityShare) {
  return {
    maxConcurrentActivityTaskExecutions: atOnce,
    ...(perSecond === undefined ? {} : {
      maxActivitiesPerSecond: perSecond,
      // What comes along with a workflow task and not by a poll would not be counted (measured on 1.24.0).
      maxEagerActivityReservationsPerWorkflowTask: 0,
    }),
    ...(ofAllPerSecond === undefined ? {} : { maxTaskQueueActivitiesPerSecond: ofAllPerSecond }),
  } satisfies Partial<WorkerOptions>;
}

/** Who polls, for people and for the deployer's readiness check. One identity per process: heartbeats carry only the first. */
async function labels(manifest: Manifest) {
  return {
    identity: workerIdentity(manifest),
    // A label without routing: a versioned worker gets no task until somebody promotes its version.
    workerDeploymentOptions: {
      useWorkerVersioning: false,
      version: {
        deploymentName: manifest.service_schema,
        buildId: (await sha256Hex(canonicalJson(manifest))).slice(0, 16),
      },
    },
  } satisfies Partial<WorkerOptions>;
}

export function workerIdentity(manifest: Manifest): string {
  return formatWorkerIdentity({
    serviceSchema: manifest.service_schema,
    revision: manifest.revision,
    process: `${hostname().replace(/\s+/g, "-")}:${process.pid}`,
    workerVersion: workerVersion(),
  });
}
