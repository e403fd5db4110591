import { setTimeout as pause } from "node:timers/promises";
import { FORCE_AFTER_DRAIN_SECONDS, type QueueWorker } from "./create-worker-from-manifest.ts";
import { describeError, EXIT_CODES, WorkerExitError } from "./exit.ts";

export interface RunSettings {
  workers: readonly QueueWorker[];
  drainSeconds: number;
  /** Aborted: drain and return. */
  stop: AbortSignal;
  /** Rejects when Temporal has shut this worker out. */
  accessLost: Promise<never>;
  /** The last error in the SDK's log. */
  lastError: () => string | undefined;
}

const WATCH_MS = 1_000;
/** A process with a failed Worker is not ended by the SDK; its siblings get this long to finish. */
const SIBLINGS_MS = 8_000;

/**
 * Runs all Workers until `stop`, then until what is in flight is done.
 *
 * @throws {WorkerExitError} when a Worker failed, or work in flight did not end in time
 */
export async function runWorkers(settings: RunSettings): Promise<void> {
  const { workers, stop } = settings;
  const runs = workers.map(({ worker }) => worker.run());
  for (const run of runs) run.catch(() => {}); // looked at below, perhaps after it was rejected
  const done = Promise.all(runs);
  const shutdown = () => workers.forEach(({ worker }) => worker.getState() === "RUNNING" && worker.shutdown());
  stop.addEventListener("abort", shutdown, { once: true });
  if (stop.aborted) shutdown();
  try {
    await Promise.race([done, failure(settings), settings.accessLost, drainDeadline(settings)]);
  } catch (error) {
    shutdown();
    await Promise.race([Promise.allSettled(runs), pause(SIBLINGS_MS)]);
    if (error instanceof WorkerExitError) throw error;
    throw stop.aborted ? notDrained(settings, error) : failed(settings, error);
  }
  if (!stop.aborted) throw failed(settings, new Error("the Workers stopped though nobody asked them to"));
}

/**
 * Rejects when a Worker has failed. `worker.run()` does not tell: after a fatal error it may stay unsettled for ever
 * (measured on 1.24.0: 3 of 5 times), a live process that polls nothing.
 */
async function failure({ workers, stop, lastError }: RunSettings): Promise<never> {
  for (;;) {
    await pause(WATCH_MS, undefined, { ref: false });
    const broken = workers.find(({ worker }) => {
      const state = worker.getState();
      return state === "FAILED" || (state === "STOPPED" && !stop.aborted);
    });
    if (broken !== undefined) {
      const reason = lastError() ?? "the SDK gave no reason";
      throw new WorkerExitError(EXIT_CODES.fatal, [`the Worker of task queue "${broken.taskQueue}" failed: ${reason}`]);
    }
  }
}

/** Rejects when the SDK did not end after its own force time. */
async function drainDeadline({ stop, drainSeconds }: RunSettings): Promise<never> {
  if (!stop.aborted) {
    const { promise, resolve } = Promise.withResolvers<unknown>();
    stop.addEventListener("abort", resolve, { once: true });
    await promise;
  }
  await pause((drainSeconds + FORCE_AFTER_DRAIN_SECONDS + 2) * 1000, undefined, { ref: false });
  throw new Error("the Workers did not stop");
}

function notDrained({ workers, drainSeconds }: RunSettings, cause: unknown): WorkerExitError {
  const inFlight = workers.reduce((sum, { worker }) => sum + worker.getStatus().numInFlightActivities, 0);
  const problem = `${inFlight} activities did not end within ${drainSeconds} s and ignored their cancellation for ` +
    `${FORCE_AFTER_DRAIN_SECONDS} s more; Temporal tries them again. Raise OSP_DRAIN_SECONDS or react to the cancellation`;
  return new WorkerExitError(EXIT_CODES.fatal, [problem], { cause });
}

function failed({ lastError }: RunSettings, cause: unknown): WorkerExitError {
  return new WorkerExitError(EXIT_CODES.fatal, [lastError() ?? describeError(cause)], { cause });
}
