import { setTimeout as pause } from "node:timers/promises";
import type { AbortCause } from "./outcome.ts";
import type { Idle } from "./platforms/platform.ts";
import { type Claim, isSuspect } from "./claim.ts";
import type { Renewal } from "./registry.ts";

interface Held {
  isSuspect: boolean;
  abort: AbortController;
  /** On our monotonic clock, in milliseconds: not later than the database's. */
  expiresAt: number;
}

export interface HandsSettings {
  /** Claims that may be worked on at once. Those that only wait for something do not count. */
  concurrency: number;
  leaseSeconds: number;
  /** Told whenever there is room for another claim. */
  onFree: () => void;
}

/** The claims that a deployer has in hand, each with its right to go on. */
export interface Hands {
  readonly size: number;
  /** How many more claims may be taken. */
  free(): number;
  /** Whether a row is among them that several deployers died with. */
  readonly hasSuspect: boolean;
  /**
   * Starts work on a claim; `claimedAt` is when the claim was asked for. Resolves when the work has ended.
   *
   * @param work is given what it says that it only waits by
   */
  take(claim: Claim, claimedAt: number, work: (signal: AbortSignal, idle: Idle) => Promise<void>): Promise<void>;
  tokens(): string[];
  /** Its lease goes on from `askedAt`, when that was asked for; the work ends where a newer revision replaces it. */
  renewed(renewal: Renewal, askedAt: number): void;
  /** Ends the work on a lease that somebody else has by now. */
  lost(token: string): void;
  /** Ends the work on every lease that nobody could renew in time. */
  abortExpired(): void;
  abortAll(cause: AbortCause): void;
  /** Resolves when nothing is in hand: true, or false after `ms`. */
  empty(ms: number): Promise<boolean>;
}

/** Each has a lease that is renewed, and may want to go on at the same moment as the others. */
const MOST_IN_HAND = 200;

export function createHands({ concurrency, leaseSeconds, onFree }: HandsSettings): Hands {
  const held = new Map<string, Held>();
  const running = new Set<Promise<void>>();
  const idleness = createIdleness(onFree);
  const expiry = (from: number) => from + leaseSeconds * 1000;
  const end = (token: string, cause: AbortCause) => held.get(token)?.abort.abort(cause);

  return {
    get size() {
      return running.size;
    },
    free: () => Math.max(0, Math.min(concurrency - (running.size - idleness.count), MOST_IN_HAND - running.size)),
    get hasSuspect() {
      return held.values().some((one) => one.isSuspect);
    },
    take(claim, claimedAt, work) {
      const abort = new AbortController();
      held.set(claim.lease_token, { isSuspect: isSuspect(claim), abort, expiresAt: expiry(claimedAt) });
      const ended = work(abort.signal, idleness.idle).finally(() => {
        held.delete(claim.lease_token);
        running.delete(ended);
        onFree();
      });
      running.add(ended);
      return ended;
    },
    tokens: () => [...held.keys()],
    renewed({ lease_token: token, is_superseded: isSuperseded }, askedAt) {
      const lease = held.get(token);
      if (lease === undefined) return; // settled meanwhile
      lease.expiresAt = Math.max(lease.expiresAt, expiry(askedAt));
      if (isSuperseded) end(token, "superseded");
    },
    lost: (token) => end(token, "lease_lost"),
    abortExpired() {
      const now = performance.now();
      for (const [token, lease] of held) if (lease.expiresAt <= now) end(token, "lease_lost");
    },
    abortAll(cause) {
      for (const token of held.keys()) end(token, cause);
    },
    async empty(ms) {
      const over = new AbortController();
      const settled = (async () => {
        while (running.size > 0) await Promise.all(running);
        return true;
      })();
      const result = await Promise.race([settled, pause(ms, false, { signal: over.signal }).catch(() => false)]);
      over.abort();
      return result;
    },
  };
}

/** Counts the work that only waits. */
function createIdleness(onFree: () => void): { readonly count: number; idle: Idle } {
  let count = 0;
  return {
    get count() {
      return count;
    },
    async idle(waiting) {
      count += 1;
      onFree();
      try {
        return await waiting;
      } finally {
        count -= 1;
      }
    },
  };
}
