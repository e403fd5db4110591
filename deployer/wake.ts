import { setTimeout as pause } from "node:timers/promises";
import { openConnection } from "./connection.ts";

/** Something that can be waited for: a notification, a free slot, or the poll interval. */
export interface Wake {
  /** Resolves at the next `wake()`, at once if there was one since the last wait, after `ms` or when the signal aborts. */
  wait(ms: number, signal: AbortSignal): Promise<void>;
  wake(): void;
}

export function createWake(): Wake {
  let isDue = false;
  let resolve: (() => void) | undefined;
  return {
    async wait(ms, signal) {
      if (!isDue && !signal.aborted) {
        await new Promise<void>((done) => {
          // Bare timers: a claim waits for this, and a race of promises with signals of their own takes longer than a notification.
          const over = () => {
            clearTimeout(timer);
            signal.removeEventListener("abort", over);
            resolve = undefined;
            done();
          };
          const timer = setTimeout(over, ms);
          signal.addEventListener("abort", over, { once: true });
          resolve = over;
        });
      }
      isDue = false;
    },
    wake() {
      isDue = true;
      resolve?.();
    },
  };
}

const RECONNECT_MS = 1000;

/**
 * Calls `onNotify` for each NOTIFY worker_registry until the signal aborts. Only makes things quicker: the poll finds the
 * same rows, also behind a pooler that passes no notifications on.
 */
export async function listen(connectionString: string, onNotify: () => void, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    try {
      const { client, ended, close } = await openConnection(connectionString, signal);
      try {
        client.on("notification", onNotify);
        await client.query("listen worker_registry");
        onNotify(); // what came while nobody listened
        await ended;
      } finally {
        await close();
      }
    } catch {
      // Not reachable: the poll tells it, with what follows from it.
    }
    await pause(RECONNECT_MS, undefined, { signal }).catch(() => {});
  }
}
