import { isFreshPoll, type Poller } from "../../supabase/functions/_shared/fresh-poll.ts";
import { parseWorkerIdentity, type WorkerIdentity } from "../../supabase/functions/_shared/worker-identity.ts";
import type { TemporalService } from "./temporal-service.ts";

// A queue has several partitions. The plain answer is the root's: the polls that reach it, and one of each other partition,
// which is forwarded to it. Of three idle workers one may be in none of them for a minute (measured on 1.32.0).

/** temporal.api.enums.v1.TaskQueueKind and TaskQueueType: one question for each type, there is none for both. */
const NORMAL_QUEUE = 1;
const ENHANCED = 1; // temporal.api.enums.v1.DescribeTaskQueueMode
const TASK_TYPES = { workflow: 1, activity: 2 } as const;
export type TaskType = keyof typeof TASK_TYPES;
export const taskTypes: readonly TaskType[] = ["workflow", "activity"];

/** Our workers that poll a task queue. The queue must exist: asking for another makes it. */
export async function pollersOf(temporal: TemporalService, queue: string, type: TaskType): Promise<WorkerIdentity[]> {
  const { pollers } = await describe(temporal, queue, { taskQueueType: TASK_TYPES[type] });
  return oursOf(pollers);
}

/** One of our workers that polls a task queue, whichever of its partitions; the queue must exist. */
export async function findPoller(
  temporal: TemporalService,
  queue: string,
  type: TaskType,
  isWanted: (worker: WorkerIdentity) => boolean,
): Promise<WorkerIdentity | undefined> {
  const seen = await pollersOf(temporal, queue, type);
  const found = seen.find(isWanted);
  // Hidden only where others poll. Looked for second: the server may answer this from what it knew 5 s ago.
  return found === undefined && seen.length > 0
    ? (await pollersOfPartitions(temporal, queue, type)).find(isWanted)
    : found;
}

/** A mode that may go with a later server: then nobody is found here, and seen a little later in the plain answer. */
async function pollersOfPartitions(temporal: TemporalService, queue: string, type: TaskType) {
  const question = { apiMode: ENHANCED, reportPollers: true, taskQueueTypes: [TASK_TYPES[type]] };
  const answer = await describe(temporal, queue, question).catch(() => {});
  return oursOf(answer?.versionsInfo?.[""]?.typesInfo?.[TASK_TYPES[type]]?.pollers);
}

function describe({ ask, connection, namespace }: TemporalService, queue: string, question: object) {
  const taskQueue = { name: queue, kind: NORMAL_QUEUE };
  return ask(() => connection.workflowService.describeTaskQueue({ namespace, taskQueue, ...question }));
}

function oursOf(pollers: readonly Poller[] | null | undefined): WorkerIdentity[] {
  return (pollers ?? []).filter((poller) => isFreshPoll(poller, Date.now())).flatMap(({ identity }) =>
    parseWorkerIdentity(identity ?? "") ?? []
  );
}
