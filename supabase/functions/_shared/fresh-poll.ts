/** As Temporal tells of a poller; its client has more. */
export interface Poller {
  identity?: string | null;
  /** When it began its last poll. */
  lastAccessTime?: { seconds?: { toString(): string } | null } | null;
}

/**
 * A poller that began its last poll longer ago may be dead: Temporal lists it for 5 minutes. A healthy idle worker's
 * age was measured up to 54 s, for a long poll lasts about 60 s.
 */
const FRESH_POLL_MS = 90_000;

/** Whether a poller is to be taken for one that lives. @param now milliseconds since the epoch */
export function isFreshPoll({ lastAccessTime }: Poller, now: number): boolean {
  return now - Number(lastAccessTime?.seconds ?? 0) * 1000 < FRESH_POLL_MS;
}
