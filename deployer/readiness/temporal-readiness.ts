import { setTimeout as pause } from "node:timers/promises";
import { workflowsByTaskQueue } from "../../supabase/functions/_shared/manifest.ts";
import { findPoller, taskTypes } from "./pollers.ts";
import { createProbe } from "./probe.ts";
import type { Deployment, Readiness } from "./readiness.ts";
import type { TemporalService } from "./temporal-service.ts";

/** A new worker shows about 0.9 s after its process began; asking costs the server about 1 ms. */
const POLL_MS = 50;

/**
 * Asks Temporal itself who polls. Ready when, on every task queue of the manifest, this revision polls for workflow
 * tasks and for activity tasks, and has run a probe workflow. Queues of single activities are polled by the same process, which
 * ends when one of its Workers fails; one whose slots are all taken would not show.
 */
export function createTemporalReadiness(temporal: TemporalService, timeoutMs: number): Readiness {
  const { connection, namespace } = temporal;
  return {
    async wait(deployment, signal) {
      const queues = [...workflowsByTaskQueue(deployment.manifest).keys()];
      const probe = createProbe(temporal, deployment);
      const began = performance.now();
      for (;;) {
        let reason: string;
        let isUnavailable = false;
        try {
          const answers = await Promise.all(queues.map((queue) => askQueue(temporal, queue, deployment)));
          const missing = answers.flatMap((answer) => answer.missing);
          if (missing.length === 0) {
            const unproven = await Promise.all(queues.map((queue) => probe.try(queue, signal)));
            missing.push(...unproven.flatMap((why) => why ?? []));
          }
          if (missing.length === 0) return { ready: true, workerVersion: answers[0]?.version };
          reason = `after ${Math.round((performance.now() - began) / 1000)} s ${missing.join(", ")}`;
        } catch (error) {
          reason = temporal.explain(error);
          isUnavailable = true;
        }
        signal.throwIfAborted();
        if (performance.now() - began > timeoutMs) {
          return { ready: false, reason, isUnavailable };
        }
        await pause(POLL_MS, undefined, { signal });
      }
    },
    async whatIsAway(signal) {
      try {
        await temporal.ask(() => connection.workflowService.describeNamespace({ namespace }));
        return undefined;
      } catch (error) {
        signal.throwIfAborted();
        return temporal.explain(error);
      }
    },
  };
}

/** The version of the worker that polls, or why the revision does not serve this queue yet. */
async function askQueue(
  temporal: TemporalService,
  queue: string,
  { serviceSchema, revision }: Deployment,
): Promise<{ missing: string[]; version: string | undefined }> {
  const missing: string[] = [];
  let version: string | undefined;
  for (const type of taskTypes) {
    const poller = await findPoller(
      temporal,
      queue,
      type,
      (worker) => worker.serviceSchema === serviceSchema && worker.revision === revision,
    );
    if (poller === undefined) missing.push(`nobody of revision ${revision} polls ${queue} for ${type} tasks`);
    else version = poller.workerVersion;
  }
  return { missing, version };
}
