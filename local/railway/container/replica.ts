import { type ChildProcess, spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { setTimeout as pause } from "node:timers/promises";

export interface ReplicaSettings {
  command: string[];
  cwd: string;
  environment: Record<string, string>;
  restartPolicy: "ON_FAILURE" | "ALWAYS" | "NEVER";
  maxRestarts: number;
  /** Between SIGTERM and SIGKILL. */
  drainSeconds: number;
  onLine: (line: string) => void;
  onState: (state: "RUNNING" | "RESTARTING") => void;
}

/** How a container ended: by itself, for good, or because it was told to. */
export type ReplicaEnd = { why: "stopped" } | { why: "exited"; exitCode: number };

const FIRST_RESTART_MS = 100;
const LONGEST_RESTART_MS = 5000;

/** Runs one container's process and starts it again as its policy says, until it has ended for good or the signal aborts. */
export async function runReplica(settings: ReplicaSettings, stop: AbortSignal): Promise<ReplicaEnd> {
  const { restartPolicy, maxRestarts, onState } = settings;
  for (let restarts = 0;; restarts++) {
    if (stop.aborted) return { why: "stopped" };
    onState("RUNNING");
    const exitCode = await runOnce(settings, stop);
    if (stop.aborted) return { why: "stopped" };
    const isWanted = restartPolicy === "ALWAYS" || (restartPolicy === "ON_FAILURE" && exitCode !== 0);
    if (!isWanted || (restartPolicy === "ON_FAILURE" && restarts >= maxRestarts)) return { why: "exited", exitCode };
    onState("RESTARTING");
    const waitMs = Math.min(LONGEST_RESTART_MS, FIRST_RESTART_MS * 2 ** restarts);
    await pause(waitMs, undefined, { signal: stop }).catch(() => {});
  }
}

async function runOnce(settings: ReplicaSettings, stop: AbortSignal): Promise<number> {
  const [program = "", ...args] = settings.command;
  // In the group of whoever runs us: whatever ends that group ends the containers.
  const child = spawn(program, args, {
    cwd: settings.cwd,
    env: settings.environment,
    stdio: ["ignore", "pipe", "pipe"],
  });
  for (const output of [child.stdout, child.stderr]) createInterface({ input: output }).on("line", settings.onLine);
  const ended = new Promise<number>((resolve) => {
    child.on("error", (error) => {
      settings.onLine(`Cannot start ${program}: ${error.message}`);
      resolve(127);
    });
    // `close`, not `exit`: then all that it wrote is there.
    child.on("close", (code) => resolve(code ?? 137));
  });
  const onStop = () => drain(child, settings.drainSeconds);
  stop.addEventListener("abort", onStop, { once: true });
  try {
    return await ended;
  } finally {
    stop.removeEventListener("abort", onStop);
  }
}

function drain(child: ChildProcess, drainSeconds: number): void {
  child.kill("SIGTERM");
  const killing = setTimeout(() => child.kill("SIGKILL"), drainSeconds * 1000);
  child.once("close", () => clearTimeout(killing));
}
