import { setTimeout as pause } from "node:timers/promises";
import type { Logger } from "pino";
import { formatError } from "../../../supabase/functions/_shared/problems.ts";
import type { PlatformState } from "../../platform-state.ts";
import { PlatformError } from "../platform.ts";
import { SITE_FAULTS } from "./errors.ts";
import type { RailwayApi } from "./railway-api.ts";

export interface AccessDeps {
  state: PlatformState;
  api: RailwayApi;
  probeSeconds: number;
  log: Logger;
}

/** Whether Railway lets this deployer in, and all deployers. */
export interface Access {
  /** Whether this one may begin anything: not before its set-up was found good, nor while Railway shuts it out. */
  isOpen(): boolean;
  opened(): void;
  /**
   * What an error means: a fault of the set-up or the site that everything meets alike, then all deployers pause instead of
   * using up every row's attempts; or a fault of this one thing.
   */
  judge(error: unknown, signal: AbortSignal): Promise<unknown>;
  /** While Railway shuts this deployer out, or the platform is paused, tries now and then whether it can go on. */
  watch(signal: AbortSignal): Promise<void>;
}

/** Errors of Railway's servers: of all that is asked, or of this one thing. */
const SERVER_ERRORS = new Set(["railway_unavailable", "railway_server_error"]);

export function createAccess(deps: AccessDeps): Access {
  const { state, api, log } = deps;
  let isOpen = false;

  async function shutOut(error: PlatformError): Promise<PlatformError> {
    isOpen = false;
    const reason = `${error.message}. The deployers go on by themselves when Railway lets them in again`;
    // A database that is away: the error says enough, and the row waits.
    if (await state.pause(reason).catch(() => false)) log.error({ event: "platform.paused", reason });
    else log.error({ event: "railway.shut_out", reason });
    return error;
  }

  return {
    isOpen: () => isOpen,
    opened: () => void (isOpen = true),
    async judge(error, signal) {
      if (!isSiteFault(error) && !isServerError(error)) return error;
      const other = await api.lookAround(signal).then(() => undefined, (reason: unknown) => reason);
      if (isSiteFault(error)) return isSiteFault(other) ? await shutOut(error) : ofThisThing(error);
      // Where Railway answers otherwise it is this request that it cannot serve: that must end some time.
      return withClass(error, other === undefined ? "transient" : "unavailable");
    },
    watch: (signal) => watch(deps, { isOpen: () => isOpen, open: () => void (isOpen = true) }, signal),
  };
}

/** The set-up is good. A refusal: Railway keeps this one service or deployment from us. */
function ofThisThing(error: PlatformError): PlatformError {
  if (error.code !== "railway_unauthorized") return error;
  return new PlatformError("permanent", "railway_access_denied", error.message, error.facts, { cause: error });
}

function withClass(error: PlatformError, errorClass: "transient" | "unavailable"): PlatformError {
  return new PlatformError(errorClass, error.code, error.message, error.facts, { cause: error });
}

async function watch(
  { state, api, probeSeconds, log }: AccessDeps,
  own: { isOpen: () => boolean; open: () => void },
  signal: AbortSignal,
): Promise<void> {
  while (!signal.aborted) {
    await pause(probeSeconds * 1000, undefined, { signal }).catch(() => {});
    try {
      // A pause of a whole period is due to the first who asks, whoever probed before.
      if (signal.aborted || (own.isOpen() && !(await state.takeProbe(probeSeconds / 2)))) continue;
      await api.lookAround(signal);
      own.open();
      if (await state.resume()) log.info({ event: "platform.resumed" });
    } catch (error) {
      if (!signal.aborted && !isSiteFault(error)) {
        log.warn({ event: "platform.probe_failed", error: formatError(error) });
      }
    }
  }
}

function isSiteFault(error: unknown): error is PlatformError {
  return error instanceof PlatformError && SITE_FAULTS.has(error.code);
}

function isServerError(error: unknown): error is PlatformError {
  return error instanceof PlatformError && SERVER_ERRORS.has(error.code);
}
