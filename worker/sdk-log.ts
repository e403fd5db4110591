import { DefaultLogger, type LogEntry, Runtime } from "@temporalio/worker";
import { describeError } from "./exit.ts";
import type { Log } from "./log.ts";

export interface SdkLog {
  /** The last error the SDK logged: the only place where it tells why a Worker failed. */
  lastError(): string | undefined;
  /** Writes what the SDK still holds back (it sorts its lines for 100 ms). */
  flush(): void;
}

/** Repeats of one message by the core within this time are counted, not written: an outage logs 3 lines a second. */
const REPEAT_MS = 10_000;

/**
 * Installs Temporal's runtime: its logs become ours, its heartbeats show a worker within seconds (60 by default).
 * Before any connection or Worker.
 */
export function installRuntime(log: Log): SdkLog {
  let lastError: string | undefined;
  const isRepeat = createRepeatFilter();
  const write = ({ level, message, meta }: LogEntry) => {
    const { error, ...fields } = meta ?? {};
    const reason = error === undefined ? undefined : describeError(error);
    if (level === "ERROR") lastError = reason === undefined ? message : `${message}: ${reason}`;
    if (message === OF_ACTIVITY_QUEUES) return;
    if (fields["sdkComponent"] === "core" && isRepeat(`${level} ${message}`)) return;
    const line = {
      event: "temporal.log",
      ...withoutBigInts(fields),
      ...(reason === undefined ? {} : { error: reason }),
    };
    log[PINO_LEVELS[level]](line, message);
  };
  Runtime.install({
    logger: new DefaultLogger("INFO", write),
    telemetryOptions: { logging: { forward: {}, filter: { core: "WARN", other: "ERROR" } } },
    workerHeartbeatInterval: "5s",
    shutdownSignals: [], // ours: see launch-worker.ts
  });
  return { lastError: () => lastError, flush: () => Runtime.instance().flushLogs() };
}

/** A warning that tells what those of single activities are for. */
const OF_ACTIVITY_QUEUES = "No workflows registered, not polling for workflow tasks";

const PINO_LEVELS = { TRACE: "trace", DEBUG: "debug", INFO: "info", WARN: "warn", ERROR: "error" } as const;

function createRepeatFilter(): (line: string) => boolean {
  const writtenAt = new Map<string, number>();
  return (line) => {
    const now = Date.now();
    if (now - (writtenAt.get(line) ?? 0) < REPEAT_MS) return true;
    if (writtenAt.size > 100) writtenAt.clear();
    writtenAt.set(line, now);
    return false;
  };
}

function withoutBigInts(fields: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(fields).map(([name, value]) => [name, typeof value === "bigint" ? String(value) : value]),
  );
}
