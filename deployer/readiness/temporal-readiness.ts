import { setTimeout as pause } from "node:timers/promises";
import { Connection } from "@temporalio/client";
import { loadClientConnectConfig } from "@temporalio/envconfig";
import { workflowsByTaskQueue } from "../../supabase/functions/_shared/manifest.ts";
import { formatError } from "../../supabase/functions/_shared/problems.ts";
import { parseWorkerIdentity } from "../../supabase/functions/_shared/worker-identity.ts";
import { StartError } from "../start-error.ts";
import type { Deployment, Readiness } from "./readiness.ts";

/**
 * A poller that began its last poll longer ago may be dead: Temporal lists it for 5 minutes. A healthy idle worker's
 * age was measured up to 54 s, for a long poll lasts about 60 s.
 */
const FRESH_POLL_MS = 90_000;
/** A new worker shows about 0.9 s after its process began; asking costs the server about 1 ms. */
const POLL_MS = 50;
const CALL_TIMEOUT_MS = 3000;

/** temporal.api.enums.v1.TaskQueueKind and TaskQueueType: one question for each type, there is none for both. */
const NORMAL_QUEUE = 1;
const TASK_TYPES = [["workflow", 1], ["activity", 2]] as const;

/**
 * Asks Temporal itself who polls. Ready when, on every task queue of the manifest, this revision polls for workflow
 * tasks and for activity tasks.
 *
 * @param environment Temporal's variables, as the workers have them
 * @throws {StartError} when they cannot be used
 */
export function createTemporalReadiness(
  environment: Record<string, string>,
  timeoutMs: number,
): Readiness {
  const { connectionOptions, namespace = "default" } = readConnection(environment);
  const connection = Connection.lazy(connectionOptions);

  return {
    async wait(deployment, signal) {
      const queues = [...workflowsByTaskQueue(deployment.manifest).keys()];
      const deadline = performance.now() + timeoutMs;
      for (;;) {
        let reason: string;
        let isUnavailable = false;
        try {
          const answers = await Promise.all(queues.map((queue) => askQueue(connection, namespace, queue, deployment)));
          const missing = answers.flatMap((answer) => answer.missing);
          if (missing.length === 0) return { ready: true, workerVersion: answers[0]?.version };
          reason = `after ${timeoutMs / 1000} s ${missing.join(", ")}`;
        } catch (error) {
          reason = away(connectionOptions.address, error);
          isUnavailable = true;
        }
        signal.throwIfAborted();
        if (performance.now() > deadline) return { ready: false, reason, isUnavailable };
        await pause(POLL_MS, undefined, { signal });
      }
    },
    async whatIsAway(signal) {
      const ask = () => connection.workflowService.describeNamespace({ namespace });
      try {
        await connection.withDeadline(Date.now() + CALL_TIMEOUT_MS, ask);
        return undefined;
      } catch (error) {
        signal.throwIfAborted();
        return away(connectionOptions.address, error);
      }
    },
    close: () => connection.close(),
  };
}

function away(address: string | undefined, error: unknown): string {
  return `Temporal at ${address ?? "localhost:7233"} does not answer: ${formatError(error)}`;
}

function readConnection(environment: Record<string, string>) {
  try {
    return loadClientConnectConfig({
      overrideEnvVars: environment,
      disableFile: environment["TEMPORAL_CONFIG_FILE"] === undefined,
    });
  } catch (error) {
    throw new StartError(`Cannot start the deployer: Temporal's settings: ${formatError(error)}`, { cause: error });
  }
}

/** The version of the worker that polls, or why the revision does not serve this queue yet. */
async function askQueue(
  connection: Connection,
  namespace: string,
  queue: string,
  deployment: Deployment,
): Promise<{ missing: string[]; version: string | undefined }> {
  const missing: string[] = [];
  let version: string | undefined;
  for (
    const [kind, taskQueueType] of TASK_TYPES
  ) {
    const { pollers } = await connection.withDeadline(
      Date.now() + CALL_TIMEOUT_MS,
      () =>
        connection.workflowService.describeTaskQueue({
          namespace,
          taskQueue: { name: queue, kind: NORMAL_QUEUE },
          taskQueueType,
        }),
    );
    const poller = (pollers ?? []).map((candidate) => ({
      identity: parseWorkerIdentity(candidate.identity ?? ""),
      polledAt: Number(candidate.lastAccessTime?.seconds ?? 0) * 1000,
    })).find(({ identity, polledAt }) =>
      identity?.serviceSchema === deployment.serviceSchema && identity.revision === deployment.revision &&
      Date.now() - polledAt < FRESH_POLL_MS
    );
    if (poller === undefined) {
      missing.push(`nobody of revision ${deployment.revision} polls ${queue} for ${kind} tasks`);
    } else version = poller.identity?.workerVersion;
  }
  return { missing, version };
}
