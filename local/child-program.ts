import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, openSync, readFileSync, statSync } from "node:fs";
import { setTimeout as pause } from "node:timers/promises";
import { endProcess, identifyProcess, isRunning, type ProcessIdentity } from "../host/process-identity.ts";
import { StackError } from "./config.ts";

export interface ProgramOptions {
  name: string;
  command: string;
  arguments: string[];
  environment: Record<string, string>;
  logFile: string;
  /** Whether it serves now; asked until it does. `output` is what it has written since it started. */
  isReady: (output: string) => boolean | Promise<boolean>;
  onStarted: (process: ProcessIdentity) => void;
  onDied: (name: string) => void;
  cwd?: string;
}

export interface Program {
  /** Ends it, within the grace, and does not start it again. */
  stop(graceMs?: number): Promise<void>;
}

const START_TIMEOUT_MS = 60_000;
const POLL_MS = 20;
const RESTART_MS = 1000;

/**
 * A program of the stack in a process group of its own, its output in a file; started again when it dies.
 *
 * @throws {StackError} with the end of its output when it does not come up
 */
export async function startProgram(options: ProgramOptions): Promise<Program> {
  let isStopping = false;
  // From when on it runs, not from when on it serves: whoever stops it meanwhile must know it.
  let current: ProcessIdentity | undefined;
  const start = () =>
    startOnce({
      ...options,
      onStarted(process) {
        current = process;
        options.onStarted(process);
      },
    }, () => onExit());
  await start();

  function onExit(): void {
    if (isStopping) return;
    options.onDied(options.name);
    void (async () => {
      while (!isStopping) {
        await pause(RESTART_MS);
        try {
          if (!isStopping) await start();
          return;
        } catch {
          // it may need something else that is starting again as well
        }
      }
    })();
  }

  return {
    async stop(graceMs = 40_000) {
      isStopping = true;
      if (current !== undefined) await endProcess(current, graceMs);
    },
  };
}

async function startOnce(options: ProgramOptions, onExit: () => void): Promise<void> {
  const output = openSync(options.logFile, "a");
  const from = statSync(options.logFile).size;
  const child = spawn(options.command, options.arguments, {
    env: options.environment,
    detached: true,
    stdio: ["ignore", output, output],
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
  });
  closeSync(output);
  const identity = identify(child, options);
  options.onStarted(identity);
  const read = () => readFileSync(options.logFile).subarray(from).toString("utf8");
  const deadline = Date.now() + START_TIMEOUT_MS;
  while (!await options.isReady(read())) {
    if (!isRunning(identity)) {
      throw new StackError(`Cannot start ${options.name}: ${lastLines(read())}\n(its output: ${options.logFile})`);
    }
    if (Date.now() > deadline) {
      await endProcess(identity, 1000);
      throw new StackError(
        `Cannot start ${options.name}: it is not ready after ${
          START_TIMEOUT_MS / 1000
        } s\n(its output: ${options.logFile})`,
      );
    }
    await pause(POLL_MS);
  }
  if (child.exitCode !== null || child.signalCode !== null) onExit();
  else child.once("exit", onExit);
}

function identify(child: ChildProcess, { name, command }: ProgramOptions): ProcessIdentity {
  child.on("error", () => {}); // told by the missing pid
  const identity = child.pid === undefined ? undefined : identifyProcess(child.pid);
  if (identity === undefined) throw new StackError(`Cannot start ${name}: ${command} does not run on this machine`);
  return identity;
}

function lastLines(output: string): string {
  return output.trimEnd().split("\n").slice(-6).join("\n");
}

/** The line `{"event":"ready","port":…}` that our programs print once they serve. */
export function readyLine(output: string): { port: number } | undefined {
  for (const line of output.split("\n")) {
    if (!line.includes('"ready"')) continue;
    try {
      const { event, port } = Object(JSON.parse(line));
      if (event === "ready" && typeof port === "number") return { port };
    } catch {
      // half a line: it is read again
    }
  }
  return undefined;
}
