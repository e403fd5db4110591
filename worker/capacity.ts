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
/** A cached workflow takes about 1 MB with a history as examples have it; payloads of some 100 KB make it several. */
const WORKFLOW_MB = 4;
/** A task in flight holds its payload in several forms: as bytes, as text, as value, on its way in and out. */
const TASK_MB = 16;

/** Sizes cache and slots from the container's memory. The SDK would take V8's heap limit, which follows the machine's memory. */
export function capacityOf(limitMb: number, queues: number): Capacity {
  const freeMb = Math.max(0, limitMb - IDLE_MB - FURTHER_QUEUE_MB * (queues - 1)) / queues;
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

/** A queue that only what was scheduled earlier is left on: mostly idle, so its part is nobody's loss. */
const LEFT_OVER_PART = 4;

/**
 * Each queue has a Temporal Worker of its own, which knows nothing of the others: what a process may do is shared out. Pure.
 *
 * @param most activities at once, on each queue, that the memory holds
 * @param queues task queues of workflows that have activities
 * @param apart of each queue that is polled beside this one for a single activity: its limits, undefined where it has none any more
 */
export function shareOut(
  options: ResolvedOptions,
  most: number,
  queues: number,
  apart: readonly (ActivityLimits | undefined)[],
): { main: ActivityShare; apart: ActivityShare[] } {
  const { max_concurrent_activities, max_activities_per_second, max_task_queue_activities_per_second } = options;
  const share = Math.max(1, queues);
  const atOnce = max_concurrent_activities === undefined ? most : atLeastOne(max_concurrent_activities / share);
  const perSecond = max_activities_per_second === undefined
    ? undefined
    : max_activities_per_second / share / (1 + apart.length);
  const limited = apart.filter((limits) => limits !== undefined).length;
  const shares = apart.map((limits) => ({
    atOnce: limits === undefined
      ? atLeastOne(atOnce / LEFT_OVER_PART)
      : Math.min(limits.max_concurrent ?? Infinity, atLeastOne(atOnce / (1 + limited))),
    perSecond: lower(limits?.max_per_second, perSecond),
    ofAllPerSecond: lower(limits?.max_task_queue_per_second, max_task_queue_activities_per_second),
  }));
  const taken = shares.reduce((sum, { atOnce: own }, index) => sum + (apart[index] === undefined ? 0 : own), 0);
  const main = {
    atOnce: atLeastOne(atOnce - taken),
    perSecond,
    ofAllPerSecond: max_task_queue_activities_per_second,
  };
  return { main, apart: shares };
}

function atLeastOne(share: number): number {
  return Math.max(1, Math.floor(share));
}

function lower(one: number | undefined, other: number | undefined): number | undefined {
  return one === undefined || other === undefined ? one ?? other : Math.min(one, other);
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
