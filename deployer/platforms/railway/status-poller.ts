import { PlatformError } from "../platform.ts";
import type { Deployment } from "./answers.ts";
import type { DeploymentAnswers } from "./railway-api.ts";

export interface PollerSettings {
  /** Asks for all of these in one request. */
  ask: (ids: string[], signal: AbortSignal) => Promise<DeploymentAnswers>;
  /** Before a deployment is asked for the first time; then half as long again, up to `capSeconds`. */
  firstSeconds: number;
  capSeconds: number;
}

/** Follows all deployments of this deployer that are under way, together. */
export interface StatusPoller {
  /** `firstSeconds`: sooner than usual. */
  follow(id: string, firstSeconds?: number): Followed;
}

/** One deployment, for one who waits for it. */
export interface Followed {
  /**
   * The next that Railway says of it; undefined: it does not exist.
   *
   * @throws {PlatformError} when Railway could not be asked several times in a row, or says to wait
   */
  next(signal: AbortSignal): Promise<Deployment | undefined>;
  /** Nobody waits for it here any more. */
  end(): void;
  /** Requests so far that it had a part in. */
  readonly looks: number;
}

interface Waiter {
  id: string;
  dueAt: number;
  waitMs: number;
  failures: number;
  looks: number;
  waiting: PromiseWithResolvers<Deployment | undefined> | undefined;
}

/** A blip is no reason to end an attempt: the deployment goes on by itself. */
const MOST_FAILURES = 3;

export function createStatusPoller({ ask, firstSeconds, capSeconds }: PollerSettings): StatusPoller {
  const waiters = new Set<Waiter>();
  const capMs = capSeconds * 1000;
  let timer: NodeJS.Timeout | undefined;
  let asking: AbortController | undefined;
  const waiting = () => [...waiters].filter((one) => one.waiting !== undefined);

  /** Wakes when the first is due. */
  function schedule(): void {
    clearTimeout(timer);
    // Nobody waits for the answer any more.
    if (asking && waiting().length === 0) asking.abort();
    if (asking) return;
    const dueAt = Math.min(...waiting().map((one) => one.dueAt));
    if (Number.isFinite(dueAt)) timer = setTimeout(() => void askAll(), Math.max(0, dueAt - performance.now()));
  }

  /** The others that wait are asked for as well: it costs nothing. */
  async function askAll(): Promise<void> {
    const asked = waiting();
    asking = new AbortController();
    for (const one of asked) one.looks += 1;
    try {
      const { found, failed } = await ask([...new Set(asked.map(({ id }) => id))], asking.signal);
      for (const one of asked) {
        const error = failed.get(one.id);
        if (error === undefined) settle(one, capMs, (promise) => promise.resolve(found.get(one.id)));
        else settle(one, capMs, (promise) => promise.reject(error));
      }
    } catch (error) {
      for (const one of asked) fail(one, capMs, error);
    } finally {
      asking = undefined;
      schedule();
    }
  }

  return {
    follow(id, first = firstSeconds) {
      const waitMs = Math.min(first, firstSeconds) * 1000;
      const one: Waiter = { id, dueAt: performance.now() + waitMs, waitMs, failures: 0, looks: 0, waiting: undefined };
      waiters.add(one);
      return {
        next: (signal) => nextOf(one, schedule, signal),
        end() {
          waiters.delete(one);
          schedule();
        },
        get looks() {
          return one.looks;
        },
      };
    },
  };
}

async function nextOf(one: Waiter, schedule: () => void, signal: AbortSignal): Promise<Deployment | undefined> {
  signal.throwIfAborted();
  const promise = one.waiting = Promise.withResolvers<Deployment | undefined>();
  const onAbort = () => {
    one.waiting = undefined;
    promise.reject(signal.reason);
    schedule();
  };
  signal.addEventListener("abort", onAbort, { once: true });
  schedule();
  try {
    return await promise.promise;
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}

type Promised = NonNullable<Waiter["waiting"]>;

function settle(one: Waiter, capMs: number, tell: (promise: Promised) => void): void {
  const { waiting } = one;
  one.waiting = undefined;
  one.failures = 0;
  postpone(one, capMs);
  if (waiting) tell(waiting);
}

function fail(one: Waiter, capMs: number, error: unknown): void {
  one.failures += 1;
  if (mayPass(error) && one.failures < MOST_FAILURES) postpone(one, capMs);
  else settle(one, capMs, (waiting) => waiting.reject(error));
}

function postpone(one: Waiter, capMs: number): void {
  one.waitMs = Math.min(capMs, one.waitMs * 1.5);
  one.dueAt = performance.now() + one.waitMs;
}

function mayPass(error: unknown): boolean {
  return !(error instanceof PlatformError) || error.class === "transient" || error.class === "unavailable";
}
