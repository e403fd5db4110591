import type { Logger } from "pino";
import { formatError } from "../supabase/functions/_shared/problems.ts";

/** Looks at work that is done again and again: that it fails is told once, not each time. */
export interface Complaint {
  /** The result, or the fallback where the work failed. */
  about<Result, Fallback>(work: Promise<Result>, fallback: Fallback): Promise<Result | Fallback>;
}

/** What fails now and then would be told as often as it fails: it has recovered when it went well for so long. */
const RECOVERY_MS = 10_000;

/**
 * Logs `<what>.failing`, once for each reason, and `<what>.recovered` once it works again.
 *
 * @param now milliseconds of a monotonic clock
 */
export function createComplaint(log: Logger, what: string, now: () => number = () => performance.now()): Complaint {
  const told = new Set<string>(); // empty: nothing fails
  let failedAt = 0;
  return {
    async about(work, fallback) {
      try {
        const result = await work;
        if (told.size > 0 && now() - failedAt >= RECOVERY_MS) {
          log.info({ event: `${what}.recovered` });
          told.clear();
        }
        return result;
      } catch (error) {
        const reason = formatError(error);
        if (!told.has(reason)) log.warn({ event: `${what}.failing`, error: reason });
        told.add(reason);
        failedAt = now();
        return fallback;
      }
    },
  };
}
