import { hostname } from "node:os";
import { type NativeConnection, Worker, type WorkerOptions } from "@temporalio/worker";
import { canonicalJson, sha256Hex } from "../supabase/functions/_shared/canonical-json.ts";
import type { Manifest } from "../supabase/functions/_shared/manifest.ts";
import { formatWorkerIdentity } from "../supabase/functions/_shared/worker-identity.ts";
import type { Capacity } from "./capacity.ts";
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
  /** Of each queue: its share of the manifest's. */
  options: Manifest["options"];
}

/** A Temporal Worker and the queue it polls. */
export interface QueueWorker {
  taskQueue: string;
  /** Task types that it polls: a queue may be without activities. */
  pollsActivities: boolean;
  worker: Worker;
}

/** Activities that ignore their cancellation get this much longer than the drain time. */
export const FORCE_AFTER_DRAIN_SECONDS = 5;

/** One Temporal Worker for each of the manifest's task queues, on one connection; none polls yet. */
export async function createWorkersFromManifest(settings: WorkerSettings): Promise<QueueWorker[]> {
  const { manifest, queues } = settings;
  const shared = { ...sharedOptions(settings), ...await labels(manifest) };
  return await Promise.all(queues.map(async ({ taskQueue, bundlePath, activities, isPosted }) => ({
    taskQueue,
    pollsActivities: pollsActivities({ activities }),
    worker: await Worker.create({
      ...shared,
      taskQueue,
      workflowBundle: { codePath: bundlePath },
      activities,
      // The SDK would hold heartbeats back for 80 % of their timeout: at the smallest trouble the next one is too late.
      ...(isPosted ? { maxHeartbeatThrottleInterval: HEARTBEAT_MS } : {}),
    }),
  })));
}

/** Two of these fit into the timeout after which the worker of a posted activity counts as lost (service/activities.ts). */
const HEARTBEAT_MS = 4_000;

export function pollsActivities({ activities }: Pick<ServiceQueue, "activities">): boolean {
  return Object.keys(activities).length > 0;
}

/** Few pollers while idle, more under load. */
function sharedOptions({ connection, namespace, drainSeconds, capacity, options }: WorkerSettings) {
  const pollers = { type: "autoscaling", minimum: 1, initial: 2, maximum: 10 } as const;
  return {
    connection,
    namespace,
    shutdownGraceTime: drainSeconds * 1000,
    shutdownForceTime: (drainSeconds + FORCE_AFTER_DRAIN_SECONDS) * 1000,
    maxCachedWorkflows: capacity.cachedWorkflows,
    maxConcurrentWorkflowTaskExecutions: capacity.workflowTasks,
    maxConcurrentActivityTaskExecutions: options.max_concurrent_activities ?? capacity.activities,
    maxConcurrentLocalActivityExecutions: capacity.activities,
    workflowTaskPollerBehavior: pollers,
    activityTaskPollerBehavior: pollers,
    ...limitRates(options),
  } satisfies Partial<WorkerOptions>;
}

function limitRates(
  { max_activities_per_second: ofWorker, max_task_queue_activities_per_second: ofQueue }: Manifest["options"],
): Partial<WorkerOptions> {
  return {
    ...(ofWorker === undefined ? {} : {
      maxActivitiesPerSecond: ofWorker,
      // What comes along with a workflow task and not by a poll would not be counted (measured on 1.24.0).
      maxEagerActivityReservationsPerWorkflowTask: 0,
    }),
    ...(ofQueue === undefined ? {} : { maxTaskQueueActivitiesPerSecond: ofQueue }),
  };
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
