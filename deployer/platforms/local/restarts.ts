import { setTimeout as pause } from "node:timers/promises";

const TICK_MS = 250;
const FIRST_MS = 500;
const CAP_MS = 30_000;
/** A worker that lived this long is healthy again: its next death is its first. */
const HEALTHY_MS = 60_000;
/** After so many deaths in a row, none of them healthy in between, it will not come up again by itself. */
const HOPELESS_FROM = 6;

interface Death {
  count: number;
  at: number;
  restartAt: number;
  isPending: boolean;
}

export type Restarts = ReturnType<typeof createRestarts>;

/** When to start what died: at once after 0.5 s, then after 1, 2, 4 … 30 s. */
export function createRestarts(now: () => number = () => performance.now()) {
  const deaths = new Map<string, Death>();
  return {
    /** Waits a tick; false once the signal has aborted. */
    async tick(signal: AbortSignal): Promise<boolean> {
      await pause(TICK_MS, undefined, { signal }).catch(() => {});
      return !signal.aborted;
    },
    /** For a worker found dead: whether to start it now. Each death is `isNew` once. */
    due(key: string): { isNew: boolean; isDue: boolean; inMs: number } {
      const last = deaths.get(key);
      if (last?.isPending) {
        const inMs = last.restartAt - now();
        if (inMs <= 0) last.isPending = false;
        return { isNew: false, isDue: inMs <= 0, inMs };
      }
      const count = last === undefined || now() - last.restartAt > HEALTHY_MS ? 1 : last.count + 1;
      const inMs = Math.min(CAP_MS, FIRST_MS * 2 ** (count - 1));
      deaths.set(key, { count, at: now(), restartAt: now() + inMs, isPending: true });
      return { isNew: true, isDue: false, inMs };
    },
    /** Whether a worker that does not run now died too often for another start to help. */
    isHopeless(key: string): boolean {
      const last = deaths.get(key);
      return last !== undefined && last.count >= HOPELESS_FROM && now() - last.restartAt <= HEALTHY_MS;
    },
    /** It is another worker from now on, or none. */
    forget(key: string): void {
      deaths.delete(key);
    },
  };
}
