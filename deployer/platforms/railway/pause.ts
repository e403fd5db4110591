import { setTimeout as pause } from "node:timers/promises";
import type { Logger } from "pino";
import { formatError } from "../../../supabase/functions/_shared/problems.ts";
import type { PlatformState } from "../../platform-state.ts";
import { PlatformError } from "../platform.ts";
import { RailwayError } from "./errors.ts";
import type { RailwayApi } from "./railway-api.ts";

export interface PauseDeps {
  state: PlatformState;
  api: RailwayApi;
  probeSeconds: number;
  log: Logger;
}

/**
 * What a refusal of the token means: nobody is let in, then all deployers pause instead of using up every row's attempts;
 * or only this one thing is kept from us.
 */
export async function judgeRefusal(error: unknown, { state, api, log }: PauseDeps): Promise<unknown> {
  if (!isRefusal(error)) return error;
  try {
    await api.lookAround();
  } catch (other) {
    if (!isRefusal(other)) return error;
    const reason = `${error.message}. The deployers go on by themselves when Railway lets them in again`;
    if (await state.pause(reason)) log.error({ event: "platform.paused", reason });
    return error;
  }
  // The token is good: Railway keeps this one service or deployment from us.
  return new PlatformError("permanent", "railway_access_denied", error.message, error.facts, { cause: error });
}

/** While the platform is paused, one of the deployers tries now and then whether it can go on. Ends with the signal. */
export async function probeWhilePaused(
  { state, api, probeSeconds, log }: PauseDeps,
  signal: AbortSignal,
): Promise<void> {
  while (!signal.aborted) {
    await pause(probeSeconds * 1000, undefined, { signal }).catch(() => {});
    try {
      // A pause of a whole period is due to the first who asks, whoever probed before.
      if (signal.aborted || !(await state.takeProbe(probeSeconds / 2))) continue;
      await api.lookAround(signal);
      if (await state.resume()) log.info({ event: "platform.resumed" });
    } catch (error) {
      if (!signal.aborted && !isRefusal(error)) log.warn({ event: "platform.probe_failed", error: formatError(error) });
    }
  }
}

function isRefusal(error: unknown): error is RailwayError {
  return error instanceof RailwayError && error.code === "railway_unauthorized";
}
