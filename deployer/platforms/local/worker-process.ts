import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, openSync, readFileSync, renameSync, statSync } from "node:fs";
import { setTimeout as pause } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { freePort } from "../../../host/free-port.ts";
import { identifyProcess, isRunning, type ProcessIdentity } from "../../../host/process-identity.ts";
import { storable } from "../../../supabase/functions/_shared/problems.ts";
import { PlatformError } from "../platform.ts";

const LAUNCH_WORKER = fileURLToPath(new URL("../../../worker/launch-worker.ts", import.meta.url));
const READY_POLL_MS = 25;
const LOG_BYTES = 10 * 1024 * 1024;

export interface StartedWorker {
  process: ProcessIdentity;
  port: number;
  child: ChildProcess;
}

/** Starts a worker in a process group and session of its own: it outlives us, and a terminal's Ctrl-C does not reach it. */
export async function startWorker(
  codeRoot: string,
  logFile: string,
  environment: Record<string, string>,
): Promise<StartedWorker> {
  const port = await freePort();
  rotate(logFile);
  const output = openSync(logFile, "a");
  const child = spawn(process.execPath, [LAUNCH_WORKER], {
    cwd: codeRoot,
    env: { ...environment, PORT: String(port) },
    detached: true,
    stdio: ["ignore", output, output],
  });
  closeSync(output);
  child.on("error", () => {}); // told by the missing pid
  child.unref();
  const identity = child.pid === undefined ? undefined : identifyProcess(child.pid);
  if (identity === undefined) {
    throw new PlatformError("transient", "worker_not_started", `Cannot start ${process.execPath} ${LAUNCH_WORKER}`, {
      logTail: logTail(logFile),
    });
  }
  return { process: identity, port, child };
}

/**
 * Resolves when the worker's /readyz says that it polls.
 *
 * @throws {PlatformError} when it ends first (its last line decides the class), or after `timeoutMs`
 */
export async function untilReady(
  worker: { process: ProcessIdentity; port: number; child?: ChildProcess | undefined },
  logFile: string,
  timeoutMs: number,
  signal: AbortSignal,
): Promise<void> {
  const deadline = Date.now() + timeoutMs;
  for (;;) {
    if (await isReady(worker.port)) return;
    if (!isRunning(worker.process)) throw exitError(worker.child?.exitCode ?? undefined, logFile);
    if (Date.now() > deadline) throw lateError(timeoutMs, logFile);
    await pause(READY_POLL_MS, undefined, { signal });
  }
}

async function isReady(port: number): Promise<boolean> {
  try {
    const response = await fetch(`http://127.0.0.1:${port}/readyz`, { signal: AbortSignal.timeout(1000) });
    await response.body?.cancel();
    return response.ok;
  } catch {
    return false; // does not listen yet
  }
}

/** A worker that still tries to reach Temporal is not at fault. */
function lateError(timeoutMs: number, logFile: string): PlatformError {
  const tail = logTail(logFile);
  const last = lastEvent(tail, ["worker.connect_failed", "worker.starting"]);
  if (last?.["event"] === "worker.connect_failed") {
    const message = `The worker does not reach Temporal at ${String(last["address"])}: ${String(last["reason"])}`;
    return new PlatformError("unavailable", "temporal_unreachable", message, { logTail: tail });
  }
  const message = `The worker is not ready after ${timeoutMs / 1000} s; its output: ${logFile}`;
  return new PlatformError("transient", "worker_not_ready", message, { logTail: tail });
}

/** A worker's exit codes: 78 its configuration is wrong, 69 Temporal is away; else it may go better next time. */
function exitError(exitCode: number | undefined, logFile: string): PlatformError {
  const tail = logTail(logFile);
  const last = lastExit(tail);
  const code = exitCode ?? last?.code;
  const reason = last === undefined || last.problems.length === 0 ? `its output: ${logFile}` : last.problems.join("; ");
  const facts = { exitCode: code, logTail: tail };
  if (code === 78) {
    return new PlatformError("permanent", "worker_unusable", `The worker refuses its manifest: ${reason}`, facts);
  }
  if (code === 69) {
    return new PlatformError(
      "unavailable",
      "temporal_unreachable",
      `The worker does not reach Temporal: ${reason}`,
      facts,
    );
  }
  return new PlatformError(
    "transient",
    "worker_exited",
    `The worker ended with exit code ${code ?? "unknown"}: ${reason}`,
    facts,
  );
}

/**
 * The worker's own last word: `{"event":"worker.exit","code":…,"problems":[…]}`. A worker that was killed has none: the
 * word of the one before it, in the same file, does not count.
 */
function lastExit(tail: string): { code: number; problems: string[] } | undefined {
  const { code, problems } = lastEvent(tail, ["worker.exit", "worker.starting"]) ?? {};
  return typeof code === "number" ? { code, problems: Array.isArray(problems) ? problems.map(String) : [] } : undefined;
}

/** The last line of a worker's log that tells of one of these events. */
function lastEvent(tail: string, events: string[]): Record<string, unknown> | undefined {
  for (const line of tail.split("\n").toReversed()) {
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

function logTail(logFile: string): string {
  try {
    return storable(readFileSync(logFile, "utf8").slice(-16_384));
  } catch {
    return "";
  }
}

/** A worker that is restarted for ever must not fill the disk: two files of 10 MiB at most. */
function rotate(logFile: string): void {
  try {
    if (statSync(logFile).size > LOG_BYTES) renameSync(logFile, `${logFile}.1`);
  } catch {
    // there is none yet
  }
}
