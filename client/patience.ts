import { setTimeout as pause } from "node:timers/promises";
import { DeploymentAbortedError, DeploymentTimeoutError } from "./errors.ts";

export interface PatienceOptions {
  /** Ends the call, not the deployment. */
  signal?: AbortSignal;
  /** Longest time that the call may take, in milliseconds; default 5 minutes. */
  timeoutMs?: number;
}

/** How long a caller is ready to wait, for requests and for the pauses between them. */
export interface Patience {
  signal: AbortSignal;
  /** @throws {DeploymentAbortedError | DeploymentTimeoutError} once it is over, in the words of `situation` */
  check(situation: string, cause?: unknown): void;
  /** Ends early, without an error, once it is over. */
  pause(milliseconds: number): Promise<void>;
}

const DEFAULT_TIMEOUT_MS = 300_000;
/** What a timer holds; a longer one would fire at once. */
const LONGEST_TIMEOUT_MS = 2 ** 31 - 1;

/** @throws {RangeError} for a `timeoutMs` that is negative or not a number */
export function createPatience({ signal: asked, timeoutMs = DEFAULT_TIMEOUT_MS }: PatienceOptions): Patience {
  const timeout = AbortSignal.timeout(Math.min(Math.ceil(timeoutMs), LONGEST_TIMEOUT_MS));
  const signal = asked === undefined ? timeout : AbortSignal.any([asked, timeout]);
  return {
    signal,
    check(situation, cause) {
      if (asked?.aborted) throw new DeploymentAbortedError(`${situation}: aborted`, { cause: cause ?? asked.reason });
      if (timeout.aborted) throw new DeploymentTimeoutError(`${situation}: ${timeoutMs} ms are over`, { cause });
    },
    pause: (milliseconds) => pause(milliseconds, undefined, { signal }).catch(() => {}),
  };
}
