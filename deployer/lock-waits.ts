import { setTimeout as pause } from "node:timers/promises";
import pLimit from "p-limit";

/**
 * Runs a statement that waits for a lock, and is given how long, as Postgres writes it. Tried again for a while, mostly as
 * long as a lease lasts, where somebody holds the lock for longer.
 *
 * @throws the statement's error; `lock_not_available` (55P03) where the lock is not let go of in that time
 */
export type RunWaiting = <Result>(run: (lockTimeout: string) => Promise<Result>) => Promise<Result>;

/** Of the pool's five connections: rows that people hold locked must leave most of them to everything else. */
const MOST_WAITING = 2;
/** So that what waits for a row that is never let go of makes room for another in between. */
const LOCK_TIMEOUT_MS = 1000;
const AGAIN_MS = 100;

/** For all statements of a pool that wait; each is tried again for so long. */
export function createLockWaits(forSeconds: number, isEnding: () => boolean, mostWaiting = MOST_WAITING): RunWaiting {
  const limit = pLimit(mostWaiting);
  return async (run) => {
    const deadline = performance.now() + forSeconds * 1000;
    for (;;) {
      try {
        return await limit(run, `${LOCK_TIMEOUT_MS}ms`);
      } catch (error) {
        if (!isLocked(error) || isEnding() || performance.now() >= deadline) throw error;
        await pause(AGAIN_MS);
      }
    }
  };
}

/** lock_not_available: the lock was waited for in vain. */
export function isLocked(error: unknown): boolean {
  return error instanceof Error && "code" in error && error.code === "55P03";
}
