import { PlatformError } from "./platform.ts";

/** Exit codes of a worker, of sysexits.h: its configuration is wrong; Temporal is away. */
const EX_CONFIG = 78;
const EX_UNAVAILABLE = 69;

/**
 * What follows when a worker ended before it was ready. Its own last line decides, `worker.exit {code, problems}`: a wrong
 * configuration is permanent, Temporal away is nobody's fault, all else may go better next time.
 *
 * @param exitCode as the platform saw it, where it did
 * @param output the end of what the worker wrote
 * @param outputPlace where a person finds all of it
 */
export function workerExitError(exitCode: number | undefined, output: string, outputPlace: string): PlatformError {
  const last = lastExit(output);
  const code = exitCode ?? last?.code;
  const reason = last === undefined || last.problems.length === 0
    ? `its output: ${outputPlace}`
    : last.problems.join("; ");
  const facts = { exitCode: code, logTail: output };
  if (code === EX_CONFIG) {
    return new PlatformError("permanent", "worker_unusable", `The worker refuses its manifest: ${reason}`, facts);
  }
  if (code === EX_UNAVAILABLE) {
    const message = `The worker does not reach Temporal: ${reason}`;
    return new PlatformError("unavailable", "temporal_unreachable", message, facts);
  }
  const message = `The worker ended with exit code ${code ?? "unknown"}: ${reason}`;
  return new PlatformError("transient", "worker_exited", message, facts);
}

/** What follows when a worker is not ready in time. One that still tries to reach Temporal is not at fault. */
export function workerLateError(timeoutSeconds: number, output: string, outputPlace: string): PlatformError {
  const last = lastEvent(output, ["worker.connect_failed", "worker.starting"]);
  if (last?.["event"] === "worker.connect_failed") {
    const message = `The worker does not reach Temporal at ${String(last["address"])}: ${String(last["reason"])}`;
    return new PlatformError("unavailable", "temporal_unreachable", message, { logTail: output });
  }
  const message = `The worker is not ready after ${timeoutSeconds} s; its output: ${outputPlace}`;
  return new PlatformError("transient", "worker_not_ready", message, { logTail: output });
}

/** Whether the output ends with a worker's own last word. */
export function tellsOfExit(output: string): boolean {
  return lastExit(output) !== undefined;
}

/** A worker that was killed has no last word: that of the one before it, in the same output, does not count. */
function lastExit(output: string): { code: number; problems: string[] } | undefined {
  const { code, problems } = lastEvent(output, ["worker.exit", "worker.starting"]) ?? {};
  return typeof code === "number" ? { code, problems: Array.isArray(problems) ? problems.map(String) : [] } : undefined;
}

/** The last line of a worker's output that tells of one of these events. */
function lastEvent(output: string, events: string[]): Record<string, unknown> | undefined {
  for (const line of output.split("\n").toReversed()) {
    try {
      const entry: unknown = JSON.parse(line);
      if (typeof entry === "object" && entry !== null && "event" in entry && events.includes(String(entry.event))) {
        return { ...entry };
      }
    } catch {
      // not a line of the worker's own
    }
  }
  return undefined;
}
