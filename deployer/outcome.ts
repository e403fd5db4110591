import { type ErrorClass, type FailureFacts, PlatformError } from "./platforms/platform.ts";
import { formatError } from "../supabase/functions/_shared/problems.ts";

/** Why a running attempt was told to end. */
export type AbortCause = "lease_lost" | "superseded" | "shutdown" | "supervision_lost";

export interface Failure {
  class: ErrorClass;
  code: string;
  message: string;
  facts: FailureFacts;
}

/** How an attempt ends, as the registry records it. */
export type Settlement =
  | { outcome: "deployed"; workerVersion: string | undefined; serviceId: string; platformDeploymentId: string }
  | { outcome: "stopped" }
  | { outcome: "superseded" }
  | { outcome: "handed_back"; reason: string }
  | { outcome: "failed"; failure: Failure }
  | { outcome: "retry" | "deferred" | "throttled"; failure: Failure; delaySeconds: number };

export interface RetryRules {
  maxAttempts: number;
  retrySeconds: number;
  retryCapSeconds: number;
  deferSeconds: number;
  deferCapSeconds: number;
}

export function failureOf(error: unknown): Failure {
  if (error instanceof PlatformError) {
    return { class: error.class, code: error.code, message: formatError(error), facts: error.facts };
  }
  return { class: "transient", code: "unexpected", message: formatError(error), facts: {} };
}

const THROTTLE_SPREAD_SECONDS = 10;

/**
 * What follows a failure.
 *
 * @param attempt number of the attempt that failed, from 1
 * @param deferrals deferrals in a row before it
 * @param mayFail false for a stop: nothing ends it but success or a newer revision
 * @param random from 0 to 1, for the jitter
 */
export function settleFailure(
  failure: Failure,
  { attempt, deferrals, mayFail }: { attempt: number; deferrals: number; mayFail: boolean },
  rules: RetryRules,
  random: number,
): Settlement {
  const { retryAfterSeconds } = failure.facts;
  if (failure.class === "throttled" && retryAfterSeconds !== undefined) {
    // A little later, never earlier: what waits for the same moment must not come at once.
    const spread = Math.min(THROTTLE_SPREAD_SECONDS, retryAfterSeconds * 0.2);
    return { outcome: "throttled", failure, delaySeconds: retryAfterSeconds + spread * random };
  }
  if (failure.class === "unavailable" || failure.class === "throttled") {
    const delaySeconds = backoffSeconds(deferrals + 1, rules.deferSeconds, rules.deferCapSeconds, random);
    return { outcome: "deferred", failure, delaySeconds };
  }
  if (mayFail && (failure.class === "permanent" || attempt >= rules.maxAttempts)) return { outcome: "failed", failure };
  return {
    outcome: "retry",
    failure,
    delaySeconds: backoffSeconds(attempt, rules.retrySeconds, rules.retryCapSeconds, random),
  };
}

/**
 * Seconds before the next try: `base` after the first failure, doubling, capped, then up to a fifth less, so that what
 * failed together does not come back together.
 */
export function backoffSeconds(failures: number, base: number, cap: number, random: number): number {
  return Math.min(cap, base * 2 ** (failures - 1)) * (1 - 0.2 * random);
}
