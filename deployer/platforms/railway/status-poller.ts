import { PlatformError } from "../platform.ts";
import type { Deployment } from "./answers.ts";

export interface PollerSettings {
  /** Asks for all of these in one request; those that are missing in the answer do not exist. */
  ask: (ids: string[]) => Promise<Map<string, Deployment>>;
  /** Before a deployment is asked for the first time; then half as long again, up to `capSeconds`. */
  firstSeconds: number;
  capSeconds: number;
}

/** Follows all deployments of this deployer that are under way, together. */
export interface StatusPoller {
  /**
   * The next that Railway says of a deployment; undefined: it does not exist.
   *
   * @throws {PlatformError} when Railway could not be asked several times in a row, or says to wait
   */
  next(id: string, signal: AbortSignal): Promise<Deployment | undefined>;
  /** Nobody follows it any more. */
  forget(id: string): void;
}

interface Followed {
  dueAt: number;
  waitMs: number;
  failures: number;
  waiting: PromiseWithResolvers<Deployment | undefined> | undefined;
}

/** A blip is no reason to end an attempt: the deployment goes on by itself. */
const MOST_FAILURES = 3;

export function createStatusPoller({ ask, firstSeconds, capSeconds }: PollerSettings): StatusPoller {
  const followed = new Map<string, Followed>();
  const capMs = capSeconds * 1000;
  let timer: NodeJS.Timeout | undefined;
  let isAsking = false;

  /** Wakes when the first is due. */
  function schedule(): void {
    clearTimeout(timer);
    if (isAsking) return;
    const dueAt = Math.min(...[...followed.values()].filter(({ waiting }) => waiting).map((one) => one.dueAt));
    if (Number.isFinite(dueAt)) timer = setTimeout(() => void askAll(), Math.max(0, dueAt - performance.now()));
  }

  /** The others that wait are asked for as well: it costs nothing. */
  async function askAll(): Promise<void> {
    const asked = [...followed].filter(([, { waiting }]) => waiting !== undefined);
    isAsking = true;
    try {
      const answers = await ask(asked.map(([id]) => id));
      for (const [id, one] of asked) settle(one, capMs, (waiting) => waiting.resolve(answers.get(id)));
    } catch (error) {
      for (const [, one] of asked) fail(one, capMs, error);
    } finally {
      isAsking = false;
      schedule();
    }
  }

  function follow(id: string): Followed {
    const waitMs = firstSeconds * 1000;
    const one = followed.get(id) ?? { dueAt: performance.now() + waitMs, waitMs, failures: 0, waiting: undefined };
    followed.set(id, one);
    return one;
  }

  return {
    next(id, signal) {
      signal.throwIfAborted();
      const one = follow(id);
      const waiting = one.waiting ??= Promise.withResolvers<Deployment | undefined>();
      const onAbort = () => {
        if (one.waiting === waiting) one.waiting = undefined;
        waiting.reject(signal.reason);
        schedule();
      };
      signal.addEventListener("abort", onAbort, { once: true });
      schedule();
      return waiting.promise.finally(() => signal.removeEventListener("abort", onAbort));
    },
    forget(id) {
      followed.delete(id);
      schedule();
    },
  };
}

type Waiting = NonNullable<Followed["waiting"]>;

function settle(one: Followed, capMs: number, tell: (waiting: Waiting) => void): void {
  const { waiting } = one;
  one.waiting = undefined;
  one.failures = 0;
  postpone(one, capMs);
  if (waiting) tell(waiting);
}

function fail(one: Followed, capMs: number, error: unknown): void {
  one.failures += 1;
  if (mayPass(error) && one.failures < MOST_FAILURES) postpone(one, capMs);
  else settle(one, capMs, (waiting) => waiting.reject(error));
}

function postpone(one: Followed, capMs: number): void {
  one.waitMs = Math.min(capMs, one.waitMs * 1.5);
  one.dueAt = performance.now() + one.waitMs;
}

function mayPass(error: unknown): boolean {
  return !(error instanceof PlatformError) || error.class === "transient" || error.class === "unavailable";
}
