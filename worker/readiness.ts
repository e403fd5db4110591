import type { NativeConnection } from "@temporalio/worker";
import { isFreshPoll, type Poller } from "../supabase/functions/_shared/fresh-poll.ts";
import type { QueueWorker } from "./create-worker-from-manifest.ts";
import { GRPC, grpcStatus } from "./grpc-status.ts";
import { withTimeLimit } from "./time-limit.ts";

export interface QueueReadiness {
  task_queue: string;
  state: string;
  /** Temporal has seen this process poll lately, for each type of task. */
  polls: boolean;
}

export interface Readiness {
  ready: boolean;
  queues: QueueReadiness[];
}

export interface ReadinessDeps {
  connection: NativeConnection;
  namespace: string;
  identity: string;
  workers: readonly QueueWorker[];
}

const ASK_MS = 2_000;
const ENHANCED = 1; // temporal.api.enums.v1.DescribeTaskQueueMode
const TASK_TYPE = { workflow: 1, activity: 2 } as const; // temporal.api.enums.v1.TaskQueueType

/**
 * Asks Temporal itself whether this process polls: a Worker that says RUNNING has perhaps not polled yet, or its
 * server is gone.
 */
export async function checkReadiness(deps: ReadinessDeps): Promise<Readiness> {
  const queues = await Promise.all(deps.workers.map(async (worker): Promise<QueueReadiness> => {
    const state = worker.worker.getState();
    return { task_queue: worker.taskQueue, state, polls: state === "RUNNING" && await isPolled(deps, worker) };
  }));
  return { ready: queues.length > 0 && queues.every((queue) => queue.polls), queues };
}

async function isPolled(deps: ReadinessDeps, { taskQueue, types, worker }: QueueWorker): Promise<boolean> {
  // Of a single activity: it is polled no sooner than its limits allow, and not while all its slots are taken.
  if (!types.includes("workflow")) return true;
  const seen = await Promise.all(types.map((type) => isSeen(deps, taskQueue, TASK_TYPE[type])));
  if (seen.includes("unreachable")) return false;
  // A worker whose slots are all taken does not poll, and is well.
  return !seen.includes("no") || worker.getStatus().numInFlightActivities > 0;
}

async function isSeen(
  { connection, namespace, identity }: ReadinessDeps,
  taskQueue: string,
  taskQueueType: 1 | 2,
): Promise<"yes" | "no" | "unreachable"> {
  const ask = (question: object) =>
    withTimeLimit(
      connection.workflowService.describeTaskQueue({ namespace, taskQueue: { name: taskQueue, kind: 1 }, ...question }),
      ASK_MS,
      () => new Error("Temporal gave no answer in time"),
    );
  const isOurs = (poller: Poller) => poller.identity === identity && isFreshPoll(poller, Date.now());
  try {
    const { pollers } = await ask({ taskQueueType });
    if (pollers.some(isOurs)) return "yes";
    if (pollers.length === 0) return "no";
    // That was the queue's root partition. Of three idle workers one may poll where it does not show there (measured on
    // 1.32.0); a server that has no such mode any more shows it a little later.
    const ofAll = await ask({ apiMode: ENHANCED, reportPollers: true, taskQueueTypes: [taskQueueType] }).catch(
      () => {},
    );
    return ofAll?.versionsInfo[""]?.typesInfo?.[taskQueueType]?.pollers?.some(isOurs) ? "yes" : "no";
  } catch (error) {
    // A key that may poll but not look: the Worker's own word must do.
    return grpcStatus(error) === GRPC.permissionDenied ? "yes" : "unreachable";
  }
}
