import type { ResolvedOptions } from "../supabase/functions/_shared/service-options.ts";

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

/**
 * Each queue has a Temporal Worker of its own, which knows nothing of the others: what a process may do is shared out. Pure.
 *
 * @param queues that have activities
 */
export function optionsOfQueue(options: ResolvedOptions, queues: number): ResolvedOptions {
  const { max_concurrent_activities: atOnce, max_activities_per_second: inSecond } = options;
  const share = Math.max(1, queues);
  return {
    ...options,
    ...(atOnce === undefined ? {} : { max_concurrent_activities: Math.max(1, Math.floor(atOnce / share)) }),
    ...(inSecond === undefined ? {} : { max_activities_per_second: inSecond / share }),
  };
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
