import type { Logger } from "pino";
import type { PlatformState } from "../../platform-state.ts";
import { PlatformError } from "../platform.ts";

/** Requests to Railway's API, of all deployers of the database together. */
export interface RequestBudget {
  /**
   * To be awaited before `count` requests are made.
   *
   * @throws {PlatformError} throttled, when they would be too many
   */
  take(count: number): Promise<void>;
  /** Railway said to wait: so do all. */
  throttle(seconds: number): Promise<void>;
}

export function createRequestBudget(state: PlatformState, quota: number, log: Logger): RequestBudget {
  let toldAt = 0;
  return {
    async take(count) {
      const taken = await state.takeRequests(count, quota).catch((error: unknown) => {
        const message = "The database does not answer, so the requests to Railway cannot be counted";
        throw new PlatformError("unavailable", "database_unreachable", message, {}, { cause: error });
      });
      if (!taken.isTaken) throw throttledError(taken, quota);
      // Each tenth of the quota once: enough to see where it goes.
      const tenth = Math.floor((taken.used / quota) * 10);
      if (tenth !== toldAt) log.info({ event: "railway.budget", used: taken.used, quota });
      toldAt = tenth;
    },
    async throttle(seconds) {
      log.warn({ event: "railway.throttled", seconds });
      await state.throttle(seconds).catch(() => {}); // the error that is about to be thrown says the same
    },
  };
}

function throttledError({ isOurs, retryAfterSeconds }: { isOurs: boolean; retryAfterSeconds: number }, quota: number) {
  const wait = Math.ceil(retryAfterSeconds);
  return isOurs
    ? new PlatformError(
      "throttled",
      "request_budget_used_up",
      `The deployers' ${quota} requests to Railway per hour are used up; the next hour begins in ${wait} s. ` +
        "OSP_RAILWAY_REQUESTS_PER_HOUR sets how many your plan allows",
      { retryAfterSeconds },
    )
    : new PlatformError("throttled", "railway_throttled", `Railway said to wait, for ${wait} s more`, {
      retryAfterSeconds,
    });
}

/** The same budget, and how much of it one piece of work took. */
export function createMeter(budget: RequestBudget): RequestBudget & { readonly count: number } {
  let count = 0;
  return {
    async take(requests) {
      await budget.take(requests);
      count += requests;
    },
    throttle: budget.throttle,
    get count() {
      return count;
    },
  };
}
