import type { ActivityLimits, ResolvedOptions } from "../supabase/functions/_shared/service-options.ts";

/** What one process takes on, so that the container's memory holds it. */
export interface Capacity {
  /** Workflows that each queue's Temporal Worker keeps in its cache; others are replayed from their history when they go on. */
  cachedWorkflows: number;
  /** Workflow tasks at once, on each queue. */
  workflowTasks: number;
  /** Activities at once, on each queue. */
  activities: number;
}

/** A container without a limit is taken for one of this size, in MB: what a small platform gives. */
const DEFAULT_LIMIT_MB = 512;
/** What a ready worker with one queue holds before its first workflow, in MB (measured: 150–180; facts/temporal-worker.md, 2.2). */
const IDLE_MB = 190;
/** Each further queue has a thread and a V8 isolate of its own. */
const FURTHER_QUEUE_MB = 45;
/** One of a single activity has neither. */
const ACTIVITY_QUEUE_MB = 3;
/** A cached workflow takes about 1 MB with a history as examples have it; payloads of some 100 KB make it several. */
const WORKFLOW_MB = 4;
/** A task in flight holds its payload in several forms: as bytes, as text, as value, on its way in and out. */
const TASK_MB = 16;

/** Sizes cache and slots from the container's memory. The SDK would take V8's heap limit, which follows the machine's memory. */
export function capacityOf(limitMb: number, queues: number, activityQueues = 0): Capacity {
  const usedMb = IDLE_MB + FURTHER_QUEUE_MB * (queues - 1) + ACTIVITY_QUEUE_MB * activityQueues;
  const freeMb = Math.max(0, limitMb - usedMb) / queues;
  const tasks = clamp(Math.floor(freeMb / TASK_MB), 4, 100);
  return {
    cachedWorkflows: clamp(Math.floor(freeMb / WORKFLOW_MB), 10, 500),
    workflowTasks: tasks,
    activities: tasks,
  };
}

/** What a Temporal Worker may do with activities. Undefined: no limit. */
export interface ActivityShare {
  atOnce: number;
  perSecond: number | undefined;
  /** Of all workers of the service together, on this task queue. */
  ofAllPerSecond: number | undefined;
}

/**
 * Each queue has a Temporal Worker of its own, which knows nothing of the others: what a process may do is shared out. An activity with
 * limits of its own takes at most an equal part; what it leaves goes to the others. Pure.
 *
 * @param most activities at once, on each queue, that the memory holds
 * @param queues task queues of workflows that have activities
 * @param apart activities of this queue that have queues of their own
 */
export function shareOut<Apart extends { limits: ActivityLimits }>(
  options: ResolvedOptions,
  most: number,
  queues: number,
  apart: readonly Apart[],
): { main: ActivityShare; apart: (Apart & { share: ActivityShare })[] } {
  const { max_concurrent_activities, max_activities_per_second, max_task_queue_activities_per_second } = options;
  const share = Math.max(1, queues);
  const wanted = (limit: keyof ActivityLimits) => apart.map(({ limits }) => limits[limit] ?? Infinity);
  const slots = max_concurrent_activities === undefined
    ? most
    : Math.max(1, Math.floor(max_concurrent_activities / share));
  const atOnce = divide(slots, wanted("max_concurrent"));
  const perSecond = divide(
    max_activities_per_second === undefined ? Infinity : max_activities_per_second / share,
    wanted("max_per_second"),
  );
  const ofAllPerSecond = divide(
    max_task_queue_activities_per_second ?? Infinity,
    wanted("max_task_queue_per_second"),
  );
  const shareOf = (index: number): ActivityShare => ({
    atOnce: Math.max(1, Math.floor(atOnce.parts[index] ?? 0)),
    perSecond: finite(perSecond.parts[index]),
    ofAllPerSecond: finite(ofAllPerSecond.parts[index]),
  });
  const shares = apart.map((one, index) => ({ ...one, share: shareOf(index) }));
  const taken = shares.reduce((sum, one) => sum + one.share.atOnce, 0);
  return {
    main: {
      atOnce: Math.max(1, slots - taken),
      perSecond: finite(perSecond.rest),
      ofAllPerSecond: finite(ofAllPerSecond.rest),
    },
    apart: shares,
  };
}

/** To each what it wants, at most an equal part of what those that want less have left; the rest is one part more. */
function divide(total: number, wanted: readonly number[]) {
  const parts: number[] = [];
  let [rest, left] = [total, wanted.length + 1];
  for (const [index, want] of [...wanted.entries()].toSorted(([, one], [, other]) => one - other)) {
    const part = Math.min(want, rest / left--);
    parts[index] = part;
    if (rest !== Infinity) rest -= part;
  }
  return { parts, rest };
}

function finite(limit: number | undefined): number | undefined {
  return limit === Infinity ? undefined : limit;
}

/** The container's memory in MB: as the operator says, else as the kernel tells, else that of a small container. */
export function memoryLimitMb(setting: number | undefined): number {
  // 0 or undefined: none is known. Without a limit the kernel tells one beyond all memory there is.
  const constrained = process.constrainedMemory();
  const isLimited = constrained > 0 && constrained < 2 ** 50;
  return setting ?? (isLimited ? Math.floor(constrained / 1024 ** 2) : DEFAULT_LIMIT_MB);
}

function clamp(value: number, lowest: number, highest: number): number {
  return Math.min(highest, Math.max(lowest, value));
}
