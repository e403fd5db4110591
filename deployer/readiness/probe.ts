import { Client, type WorkflowHandle } from "@temporalio/client";
import { randomUUID } from "node:crypto";
import { setTimeout as pause } from "node:timers/promises";
import { PROBE_WORKFLOW } from "../../supabase/functions/_shared/service-code.ts";
import { parseWorkerIdentity } from "../../supabase/functions/_shared/worker-identity.ts";
import type { Deployment } from "./readiness.ts";
import type { TemporalService } from "./temporal-service.ts";

/** Old and new workers share a queue, and Temporal gives a task to any of them. */
const QUICK_TRIES = 20;
const SLOW_MS = 2_000;
/** An idle worker answers within 0.1 s (facts/temporal-worker.md, 11.2); one that is new and busy has this long. */
const TRY_SECONDS = 10;
/** A worker that took the task and hangs loses it to another one. */
const TASK_SECONDS = 3;
const LOOK_MS = 50;

/** Proves by tiny workflows that a revision's worker does the work of its queues, not only asks for some. */
export interface Probe {
  /**
   * Starts one on a queue that is unproven yet, and waits for its end.
   *
   * @returns why the queue is still unproven; undefined: this revision's worker has run it
   */
  try(queue: string, signal: AbortSignal): Promise<string | undefined>;
}

export function createProbe(temporal: TemporalService, { serviceSchema, revision }: Deployment): Probe {
  const client = new Client({ connection: temporal.connection, namespace: temporal.namespace });
  const proven = new Set<string>();
  const tries = new Map<string, number>();
  return {
    async try(queue, signal) {
      if (proven.has(queue)) return undefined;
      const number = (tries.get(queue) ?? 0) + 1;
      // Beside many old workers chance may take longer: the new one polls, so what is left of the time is used slowly.
      if (number > QUICK_TRIES) await pause(SLOW_MS, undefined, { signal });
      const handle = await temporal.ask(() =>
        client.workflow.start(PROBE_WORKFLOW, {
          taskQueue: queue,
          workflowId: `${PROBE_WORKFLOW}/${serviceSchema}/${revision}/${randomUUID()}`,
          workflowExecutionTimeout: TRY_SECONDS * 1000,
          workflowTaskTimeout: TASK_SECONDS * 1000,
          // Before all work that waits on this queue: a backlog of hours must not look like a dead worker.
          priority: { priorityKey: 1 },
        })
      );
      tries.set(queue, number);
      const ran = await whoRan(temporal, handle, signal);
      if (ran.failure !== undefined) return `the probe workflow on ${queue} did not run: ${ran.failure}`;
      const worker = parseWorkerIdentity(ran.identity);
      if (worker?.serviceSchema === serviceSchema && worker.revision === revision) {
        proven.add(queue);
        return undefined;
      }
      return `${number} probe workflows on ${queue} were run by other workers, the last one by ${ran.identity}`;
    },
  };
}

type Ran = { identity: string; failure?: undefined } | { failure: string };

/** Whose worker ran it, by its history. Looking costs the server less than a workflow, so it is bounded by time alone. */
async function whoRan(temporal: TemporalService, handle: WorkflowHandle, signal: AbortSignal): Promise<Ran> {
  const deadline = performance.now() + (TRY_SECONDS + TASK_SECONDS) * 1000;
  let failure = `nobody took its task within ${TRY_SECONDS} s`;
  while (performance.now() < deadline) {
    await pause(LOOK_MS, undefined, { signal });
    const { events } = await temporal.ask(() => handle.fetchHistory());
    for (const event of events ?? []) {
      const identity = event.workflowTaskCompletedEventAttributes?.identity;
      if (identity) return { identity };
      const failed = event.workflowTaskFailedEventAttributes;
      if (failed) failure = `${failed.identity}: ${failed.failure?.message}`;
      if (event.workflowTaskTimedOutEventAttributes) failure = `a worker took its task and did not end it`;
      if (event.workflowExecutionTimedOutEventAttributes) return { failure };
    }
  }
  return { failure };
}
