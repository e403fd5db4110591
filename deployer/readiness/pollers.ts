import { parseWorkerIdentity, type WorkerIdentity } from "../../supabase/functions/_shared/worker-identity.ts";
import type { TemporalService } from "./temporal-service.ts";

/**
 * A poller that began its last poll longer ago may be dead: Temporal lists it for 5 minutes. A healthy idle worker's
 * age was measured up to 54 s, for a long poll lasts about 60 s.
 */
const FRESH_POLL_MS = 90_000;

/** temporal.api.enums.v1.TaskQueueKind and TaskQueueType: one question for each type, there is none for both. */
const NORMAL_QUEUE = 1;
const TASK_TYPES = { workflow: 1, activity: 2 } as const;
export type TaskType = keyof typeof TASK_TYPES;
export const taskTypes: readonly TaskType[] = ["workflow", "activity"];

/** Our workers that poll a task queue. The queue must exist: asking for another makes it. */
export async function pollersOf(temporal: TemporalService, queue: string, type: TaskType): Promise<WorkerIdentity[]> {
  const { connection, namespace } = temporal;
  const { pollers } = await temporal.ask(() =>
    connection.workflowService.describeTaskQueue({
      namespace,
      taskQueue: { name: queue, kind: NORMAL_QUEUE },
      taskQueueType: TASK_TYPES[type],
    })
  );
  return (pollers ?? []).flatMap(({ identity, lastAccessTime }) => {
    const isFresh = Date.now() - Number(lastAccessTime?.seconds ?? 0) * 1000 < FRESH_POLL_MS;
    return (isFresh ? parseWorkerIdentity(identity ?? "") : undefined) ?? [];
  });
}
