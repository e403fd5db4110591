import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, openSync } from "node:fs";
import { setTimeout as pause } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { freePort } from "../../../host/free-port.ts";
import { nodeProcessSettings } from "../../../host/node-process-settings.ts";
import { identifyProcess, isRunning, type ProcessIdentity } from "../../../host/process-identity.ts";
import { PlatformError } from "../platform.ts";
import { workerExitError, workerLateError } from "../worker-outcome.ts";
import { boundLog, logTail } from "./worker-log.ts";

const LAUNCH_WORKER = fileURLToPath(new URL("../../../worker/launch-worker.ts", import.meta.url));
const READY_POLL_MS = 25;

export interface StartedWorker {
  process: ProcessIdentity;
  port: number;
  child: ChildProcess;
}

/**
 * Starts a worker in a process group and session of its own: it outlives us, and a terminal's Ctrl-C does not reach it.
 *
 * @param assertMay throws where it must not be started any more; asked at the last moment
 */
export async function startWorker(
  codeRoot: string,
  logFile: string,
  assertMay: () => void,
  environment: Record<string, string>,
): Promise<StartedWorker> {
  const port = await freePort();
  boundLog(logFile);
  assertMay();
  const output = openSync(logFile, "a");
  const child = spawn(process.execPath, [LAUNCH_WORKER], {
    cwd: codeRoot,
    env: { ...nodeProcessSettings(environment), ...environment, PORT: String(port) },
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
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    const answersReady = await isReady(worker.port);
    // Looked at after the answer: what answered may be another program on the port of one that has ended.
    if (!isRunning(worker.process)) {
      throw workerExitError(worker.child?.exitCode ?? undefined, logTail(logFile), logFile);
    }
    if (answersReady) return;
    if (performance.now() > deadline) throw workerLateError(timeoutMs / 1000, logTail(logFile), logFile);
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
