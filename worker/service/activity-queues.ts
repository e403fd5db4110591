/* oxlint-disable no-underscore-dangle -- globals of the sandbox: one is the SDK's, the other must be nobody else's */
import {
  ActivityFailure,
  type ActivityInput,
  type Next,
  TimeoutFailure,
  type WorkflowInterceptorsFactory,
  type WorkflowOutboundCallsInterceptor,
} from "@temporalio/workflow";

/** Which activities have task queues of their own now; the worker puts it before the bundle (route-activities.ts). */
export interface ActivityRouting {
  /** Of the workflows: what they schedule elsewhere themselves stays there. */
  taskQueue: string;
  /** By the name of the activity. */
  queues: Record<string, string>;
  /** How long one waits there until it is scheduled anew, at first. */
  waitMs: number;
}

/** Each time one is scheduled anew it may wait twice as long as before, up to this: so soon does a limit that went let go of all. */
const LONGEST_WAIT_MS = 3_600_000;

/**
 * In every bundle: sends activities that have limits to task queues of their own, and brings back what waits on one that nobody polls any
 * more, or not yet: its limits went with a later revision, or came with one that was never deployed.
 *
 * The queue of an activity decides nothing in a replay, so that each worker may send by its own manifest, and running workflows follow.
 * What waited too long tells that by itself: its failure stands in the history, where any worker finds it, of whatever revision.
 */
export const interceptors: WorkflowInterceptorsFactory = () => ({ outbound: [{ scheduleActivity }] });

function scheduleActivity(input: ActivityInput, next: Scheduling): Promise<unknown> {
  const result = schedule(input, next, 0);
  // Its author has said how long it may wait, and sees to what follows.
  if (!isBounded(input)) comeBack(input, next, 0, input.seq, AsyncLocalStorage.snapshot());
  return result;
}

type Scheduling = Next<WorkflowOutboundCallsInterceptor, "scheduleActivity">;

function schedule(input: ActivityInput, next: Scheduling, moved: number): Promise<unknown> {
  const { taskQueue, queues, waitMs } = globalThis.__osp_routing ?? { taskQueue: "", queues: {}, waitMs: 0 };
  const { options, activityType } = input;
  const own = Object.hasOwn(queues, activityType) ? queues[activityType] : undefined;
  if (own === undefined || (options.taskQueue || taskQueue) !== taskQueue) return next(input);
  const wait = isBounded(input) ? {} : { scheduleToStartTimeout: Math.min(waitMs * 2 ** moved, LONGEST_WAIT_MS) };
  return next({ ...input, options: { ...options, ...wait, taskQueue: own } });
}

function isBounded({ options }: ActivityInput): boolean {
  return options.scheduleToStartTimeout !== undefined || options.scheduleToCloseTimeout !== undefined;
}

/**
 * Schedules an activity anew when it has waited too long, before its workflow is told. Not by `catch`: whoever awaits an activity would go
 * on a microtask later than a workflow of before did, which a replay may take for another order.
 *
 * @param seq under which the SDK will settle it
 * @param inScope runs in the cancellation scope that it was scheduled in
 */
function comeBack(input: ActivityInput, next: Scheduling, moved: number, seq: number, inScope: InScope): void {
  const { completions, nextSeqs } = globalThis.__TEMPORAL_ACTIVATOR__;
  const completion = completions.activity.get(seq);
  if (completion === undefined) return; // cancelled before it was scheduled
  const { resolve, reject } = completion;
  completion.reject = (error) => {
    if (!hasNeverStarted(error)) return reject(error);
    inScope(() => {
      const again = nextSeqs.activity++;
      // Under the id that it had: endpoints know it by that.
      const options = { ...input.options, activityId: input.options.activityId ?? String(input.seq) };
      const result = schedule({ ...input, seq: again, options }, next, moved + 1);
      const following = completions.activity.get(again);
      if (following === undefined) return void result.catch(reject); // its scope was cancelled meanwhile
      Object.assign(following, { resolve, reject });
      comeBack(input, next, moved + 1, again, inScope);
    });
  };
}

function hasNeverStarted(error: unknown): boolean {
  return error instanceof ActivityFailure && error.cause instanceof TimeoutFailure &&
    error.cause.timeoutType === "SCHEDULE_TO_START";
}

type InScope = (work: () => void) => void;

// What of the sandbox the SDK does not export; its version is pinned.
declare global {
  var __osp_routing: ActivityRouting | undefined;
  var __TEMPORAL_ACTIVATOR__: {
    completions: {
      activity: Map<number, { resolve: (result: unknown) => void; reject: (error: unknown) => void }>;
    };
    nextSeqs: { activity: number };
  };
  var AsyncLocalStorage: { snapshot(): InScope };
}
