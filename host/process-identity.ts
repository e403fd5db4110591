import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { setTimeout as pause } from "node:timers/promises";
import { z } from "zod";

/** A process that is found again after a restart of ours: a pid alone may belong to somebody else by then. */
export const processIdentitySchema = z.object({
  pid: z.int().min(1),
  /** When the process began, in the machine's own words; only ever compared with itself. */
  started: z.string().min(1),
});
export type ProcessIdentity = z.infer<typeof processIdentitySchema>;

/** The identity of a running process; undefined when no such process runs (a zombie does not run). */
export function identifyProcess(pid: number): ProcessIdentity | undefined {
  const started = process.platform === "linux" ? startedOnLinux(pid) : startedByPs(pid);
  return started === undefined ? undefined : { pid, started };
}

export function isRunning({ pid, started }: ProcessIdentity): boolean {
  return identifyProcess(pid)?.started === started;
}

/**
 * Sends a signal to a process and, where it leads one, to its whole group. A process that is gone is success.
 * Nothing is sent when the pid belongs to another process by now.
 */
export function signalProcess(identity: ProcessIdentity, signal: NodeJS.Signals): void {
  if (!isRunning(identity)) return;
  for (const target of [-identity.pid, identity.pid]) {
    try {
      process.kill(target, signal);
      return;
    } catch (error) {
      // ESRCH for the group: the process leads none, so it is signalled alone.
      if (!(error instanceof Error && "code" in error && error.code === "ESRCH")) throw error;
    }
  }
}

/** SIGTERM, then SIGKILL when the process still runs after `graceMs`. Returns once it is gone. */
export async function endProcess(identity: ProcessIdentity, graceMs: number): Promise<"ended" | "killed"> {
  signalProcess(identity, "SIGTERM");
  if (await isGoneWithin(identity, graceMs)) return "ended";
  signalProcess(identity, "SIGKILL");
  if (await isGoneWithin(identity, 10_000)) return "killed";
  throw new Error(`Cannot end process ${identity.pid}: it still runs 10 s after SIGKILL`);
}

async function isGoneWithin(identity: ProcessIdentity, ms: number): Promise<boolean> {
  const deadline = Date.now() + ms;
  while (isRunning(identity)) {
    if (Date.now() >= deadline) return false;
    await pause(20);
  }
  return true;
}

/** Field 22 of /proc/PID/stat: clock ticks since boot (proc_pid_stat(5)); the boot id tells two boots apart. */
function startedOnLinux(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    const [state, ...fields] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    if (state === "Z" || state === "X") return undefined;
    return `${bootId()}/${fields[18]}`;
  } catch {
    return undefined; // no such process
  }
}

function bootId(): string {
  return readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();
}

function startedByPs(pid: number): string | undefined {
  try {
    const [state, ...started] = execFileSync("ps", ["-o", "stat=,lstart=", "-p", String(pid)], { encoding: "utf8" })
      .trim().split(/\s+/);
    return state === undefined || state === "" || state.startsWith("Z") ? undefined : started.join(" ");
  } catch {
    return undefined; // ps exits 1 for a process that is not there
  }
}
