import { setTimeout as pause } from "node:timers/promises";
import type { Logger } from "pino";
import { isLocked } from "../../lock-waits.ts";
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
  /**
   * Says how many requests an hour are allowed from now on.
   *
   * @throws {PlatformError} unavailable
   */
  announce(): Promise<void>;
  /** Railway said to wait: so do all. */
  throttle(seconds: number): Promise<void>;
}

export interface BudgetSettings {
  /** Of all deployers together. */
  perHour: number;
  /** Of this deployer. */
  perSecond: number;
}

export function createRequestBudget(
  state: PlatformState,
  { perHour: quota, perSecond }: BudgetSettings,
  log: Logger,
): RequestBudget {
  let toldAt = 0;
  const turn = createTurns(1000 / perSecond);
  return {
    async take(count) {
      await turn(count);
      const taken = await state.takeRequests(count, quota).catch(uncounted);
      if (!taken.isTaken) throw throttledError(taken, quota);
      // Each tenth of the quota once: enough to see where it goes.
      const tenth = Math.floor((taken.used / quota) * 10);
      if (tenth !== toldAt) log.info({ event: "railway.budget", used: taken.used, quota });
      toldAt = tenth;
    },
    announce: () => state.allowRequests(quota).catch(uncounted),
    async throttle(seconds) {
      log.warn({ event: "railway.throttled", seconds });
      await state.throttle(seconds).catch(() => {}); // the error that is about to be thrown says the same
    },
  };
}

function uncounted(error: unknown): never {
  const message = isLocked(error)
    ? "Somebody has the row of Railway in osp_metadata.platforms locked, so the requests to Railway cannot be counted. End that " +
      "transaction; whose it is: select pid, state, query from pg_stat_activity where xact_start is not null order by xact_start"
    : "The database does not answer, so the requests to Railway cannot be counted";
  throw new PlatformError("unavailable", "database_unreachable", message, {}, { cause: error });
}

/** Spaces requests out. A burst is answered with a throttle that holds everything up. */
function createTurns(spacingMs: number) {
  let freeAt = 0;
  return async (count: number): Promise<void> => {
    const now = performance.now();
    const at = Math.max(now, freeAt);
    freeAt = at + count * spacingMs;
    if (at > now) await pause(at - now);
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
    announce: budget.announce,
    throttle: budget.throttle,
    get count() {
      return count;
    },
  };
}
