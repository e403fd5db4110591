import { setTimeout as pause } from "node:timers/promises";
import type { AbortCause } from "./outcome.ts";
import { type Claim, isSuspect } from "./claim.ts";
import type { Renewal } from "./registry.ts";

interface Held {
  isSuspect: boolean;
  abort: AbortController;
  /** On our monotonic clock, in milliseconds: not later than the database's. */
  expiresAt: number;
}

/** The claims that a deployer has in hand, each with its right to go on. */
export interface Hands {
  readonly size: number;
  /** Whether a row is among them that several deployers died with. */
  readonly hasSuspect: boolean;
  /** Starts work on a claim; `claimedAt` is when the claim was asked for. Resolves when the work has ended. */
  take(claim: Claim, claimedAt: number, work: (signal: AbortSignal) => Promise<void>): Promise<void>;
  tokens(): string[];
  /** A token that was asked for and is not renewed has been lost; `askedAt` is when it was asked for. */
  renewed(asked: string[], renewals: Renewal[], askedAt: number): void;
  /** Ends the work on every lease that nobody could renew in time. */
  abortExpired(): void;
  abortAll(cause: AbortCause): void;
  /** Resolves when nothing is in hand: true, or false after `ms`. */
  empty(ms: number): Promise<boolean>;
}

export function createHands(leaseSeconds: number): Hands {
  const held = new Map<string, Held>();
  const running = new Set<Promise<void>>();
  const expiry = (from: number) => from + leaseSeconds * 1000;
  const end = (token: string, cause: AbortCause) => held.get(token)?.abort.abort(cause);

  return {
    get size() {
      return running.size;
    },
    get hasSuspect() {
      return held.values().some((one) => one.isSuspect);
    },
    take(claim, claimedAt, work) {
      const abort = new AbortController();
      held.set(claim.lease_token, { isSuspect: isSuspect(claim), abort, expiresAt: expiry(claimedAt) });
      const ended = work(abort.signal).finally(() => {
        held.delete(claim.lease_token);
        running.delete(ended);
      });
      running.add(ended);
      return ended;
    },
    tokens: () => [...held.keys()],
    renewed(asked, renewals, askedAt) {
      const byToken = new Map(renewals.map((renewal) => [renewal.lease_token, renewal]));
      for (const token of asked) {
        const renewal = byToken.get(token);
        const lease = held.get(token);
        if (lease === undefined) continue; // settled meanwhile
        lease.expiresAt = expiry(askedAt);
        if (renewal === undefined) end(token, "lease_lost");
        else if (renewal.is_superseded) end(token, "superseded");
      }
    },
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
