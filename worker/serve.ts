import { setTimeout as pause } from "node:timers/promises";
import type { NativeConnection } from "@temporalio/worker";
import type { Manifest } from "../supabase/functions/_shared/manifest.ts";
import { capacityOf } from "./capacity.ts";
import type { WorkerConfig } from "./config.ts";
import { connect } from "./connect.ts";
import {
  createWorkersFromManifest,
  sharesOf,
  workerIdentity,
  type WorkerSettings,
} from "./create-worker-from-manifest.ts";
import type { HealthServer } from "./health-server.ts";
import type { ServiceQueue } from "./load-service.ts";
import type { Log } from "./log.ts";
import { checkReadiness, type ReadinessDeps } from "./readiness.ts";
import { runWorkers } from "./run-workers.ts";
import { installRuntime } from "./sdk-log.ts";
import type { StopSignal } from "./stop-signal.ts";
import { watchAccess } from "./watch-access.ts";

interface Serving {
  config: WorkerConfig;
  manifest: Manifest;
  queues: ServiceQueue[];
  health: HealthServer | undefined;
  stop: StopSignal;
  log: Log;
  /** Told what writes out the SDK's last lines before the process ends. */
  onFlush: (flush: () => void) => void;
}

/** Polls until the process is told to stop. The SDK is loaded with this file: a bad manifest is told before, at once. */
export async function serve({ config, manifest, queues, health, stop, log, onFlush }: Serving): Promise<void> {
  const { drainSeconds, connectDeadlineSeconds, temporal, memoryMb } = config;
  const { namespace } = temporal;
  const sdk = installRuntime(log);
  onFlush(sdk.flush);
  const capacity = capacityOf(memoryMb, queues.length, queues.flatMap(({ apart }) => apart).length);
  const settings = { manifest, queues, namespace, drainSeconds, capacity };
  log.info({
    event: "worker.capacity",
    memory_mb: memoryMb,
    cached_workflows: capacity.cachedWorkflows,
    workflow_tasks: capacity.workflowTasks,
    ...activitiesAtOnce(settings),
  });
  const make = (connection: NativeConnection) => createWorkersFromManifest({ ...settings, connection });
  const { connection, making } = await connect(temporal, connectDeadlineSeconds, log, make);
  const workers = await making;

  const signal = stop.beginDraining((name) =>
    log.info({ event: "worker.draining", signal: name, drain_seconds: drainSeconds })
  );
  const identity = workerIdentity(manifest);
  const accessLost = watchAccess(connection, namespace);
  const running = runWorkers({ workers, drainSeconds, stop: signal, accessLost, lastError: sdk.lastError });
  // After the first poll: its questions would take the time of it.
  void announceReadiness({ connection, namespace, identity, workers }, health, signal, log);
  await running;
}

/** Of each queue at least, and of single activities with limits of their own. */
function activitiesAtOnce(settings: Pick<WorkerSettings, "manifest" | "queues" | "capacity">) {
  const shares = settings.queues.map((queue) => sharesOf(queue, settings));
  const apart = shares.flatMap((share) => share.apart.map(({ taskQueue, share: { atOnce } }) => [taskQueue, atOnce]));
  return {
    activities: Math.min(...shares.map(({ main }) => main.atOnce)),
    ...(apart.length === 0 ? {} : { activities_apart: Object.fromEntries(apart) }),
  };
}

/** Logs `worker.ready` once Temporal has seen every queue polled. */
async function announceReadiness(
  deps: ReadinessDeps,
  health: HealthServer | undefined,
  stop: AbortSignal,
  log: Log,
): Promise<void> {
  health?.reportReadiness(() => checkReadiness(deps));
  for (let waitMs = 20; !stop.aborted; waitMs = Math.min(waitMs * 1.5, 1_000)) {
    const { ready } = await checkReadiness(deps);
    if (ready && !stop.aborted) {
      const task_queues = deps.workers.map(({ taskQueue }) => taskQueue);
      log.info({ event: "worker.ready", task_queues, identity: deps.identity, port: health?.port });
      return;
    }
    await pause(waitMs);
  }
}
