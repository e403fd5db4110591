import { existsSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { z } from "zod";

export interface WorkerStart {
  /** From the process's start to `worker.ready`. */
  startMs: number;
  /** From `worker.starting` to `worker.ready`: what is left after Node has started and read the manifest. */
  loadMs: number;
}

const lineSchema = z.object({ event: z.string(), time: z.iso.datetime() });
const TIMEOUT_MS = 10_000;

/** How long the worker of a service's first revision took to start, by its own log; no deployer can be faster. */
export async function readWorkerStart(stateDirectory: string, serviceSchema: string): Promise<WorkerStart> {
  const logFile = join(stateDirectory, "workers", serviceSchema, "1.log");
  // The deployer asks for readiness by itself, and may know it before the worker has written it down.
  for (const deadline = Date.now() + TIMEOUT_MS; Date.now() < deadline; await pause(20)) {
    const times = existsSync(logFile) ? eventTimes(readFileSync(logFile, "utf8")) : new Map<string, number>();
    const startingAt = times.get("worker.starting");
    const readyAt = times.get("worker.ready");
    if (startingAt === undefined || readyAt === undefined) continue;
    // The deployer opens the log as the last thing before it starts the process; some file systems do not know when.
    const openedAt = statSync(logFile).birthtimeMs;
    const isKnown = openedAt > 0 && openedAt <= startingAt;
    return { startMs: readyAt - (isKnown ? openedAt : startingAt), loadMs: readyAt - startingAt };
  }
  throw new Error(`Cannot tell how long the worker took: no worker.ready in ${logFile} after ${TIMEOUT_MS} ms`);
}

function eventTimes(log: string): Map<string, number> {
  const times = new Map<string, number>();
  // The last line may be half written.
  for (const line of log.split("\n").slice(0, -1)) {
    const parsed = lineSchema.safeParse(parseLine(line));
    if (parsed.success) times.set(parsed.data.event, Date.parse(parsed.data.time));
  }
  return times;
}

function parseLine(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    return undefined; // Node's own warnings are no JSON
  }
}
