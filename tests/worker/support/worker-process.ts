import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, realpathSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { keepWorkerProgram } from "../../../deployer/worker-program.ts";
import { cacheDirectory } from "../../../host/cache-directory.ts";

const LAUNCHER = fileURLToPath(new URL("../../../worker/launch-worker.ts", import.meta.url));
/** As the deployer starts it; staged-copy.test.ts has the worker without. */
export const OSP_WORKER_PROGRAM = await keepWorkerProgram(cacheDirectory(process.env));

export type LogLine = Record<string, unknown> & { event?: string };

export interface WorkerProcess {
  child: ChildProcess;
  lines: LogLine[];
  /** Output that is no JSON object: there must be none. */
  otherOutput: string[];
  /** The first line with this event that came or comes. */
  event(name: string, timeoutMs?: number): Promise<LogLine>;
  exit(timeoutMs?: number): Promise<{ code: number | null; last: LogLine | undefined }>;
  kill(): Promise<void>;
}

export interface CodeRoot {
  path: string;
  write(name: string, content: unknown): void;
  remove(): void;
}

/** A directory with the given files; objects are written as JSON. */
export function createCodeRoot(files: Record<string, unknown> = {}): CodeRoot {
  const path = realpathSync(mkdtempSync(join(tmpdir(), "osp-worker-test-")));
  const write = (name: string, content: unknown) => {
    mkdirSync(dirname(join(path, name)), { recursive: true });
    writeFileSync(join(path, name), typeof content === "string" ? content : JSON.stringify(content));
  };
  for (const [name, content] of Object.entries(files)) write(name, content);
  return { path, write, remove: () => rmSync(path, { recursive: true, force: true }) };
}

/** The real program in a real process, with this environment and PATH only. */
export function startWorker(codeRoot: string, environment: Record<string, string>, args: string[] = []): WorkerProcess {
  const child = spawn(process.execPath, [LAUNCHER, ...args], {
    cwd: codeRoot,
    env: { PATH: process.env["PATH"] ?? "", OSP_WORKER_PROGRAM, ...environment },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const lines: LogLine[] = [];
  const otherOutput: string[] = [];
  const listeners = new Set<() => void>();
  const closed = once(child, "close");
  const isClosed = () => child.exitCode !== null || child.signalCode !== null;
  for (const stream of [child.stdout, child.stderr]) {
    createInterface(stream).on("line", (text) => {
      const line = parseLine(text);
      if (line === undefined) otherOutput.push(text);
      else lines.push(line);
      for (const listener of listeners) listener();
    });
  }

  async function until<Found>(what: string, find: () => Found | undefined, timeoutMs: number): Promise<Found> {
    const { promise, resolve, reject } = Promise.withResolvers<Found>();
    const give = (reason: string) =>
      reject(
        new Error(`${reason} while waiting for ${what}:\n${JSON.stringify(lines, null, 1)}\n${otherOutput.join("\n")}`),
      );
    const look = () => {
      const found = find();
      if (found !== undefined) resolve(found);
    };
    const timer = setTimeout(() => give(`${timeoutMs} ms passed`), timeoutMs);
    const giveAtEnd = () => give("the worker ended"); // after `look`: a promise is settled once
    closed.then(look).then(giveAtEnd, giveAtEnd);
    listeners.add(look);
    look();
    return await promise.finally(() => {
      clearTimeout(timer);
      listeners.delete(look);
    });
  }

  return {
    child,
    lines,
    otherOutput,
    event: (name, timeoutMs = 30_000) => until(name, () => lines.find((line) => line.event === name), timeoutMs),
    async exit(timeoutMs = 30_000) {
      const timer = setTimeout(() => child.kill("SIGKILL"), timeoutMs);
      await closed;
      clearTimeout(timer);
      return { code: child.exitCode, last: lines.at(-1) };
    },
    async kill() {
      if (!isClosed()) child.kill("SIGKILL");
      await closed;
    },
  };
}

function parseLine(text: string): LogLine | undefined {
  try {
    const line: unknown = JSON.parse(text);
    return typeof line === "object" && line !== null ? { ...line } : undefined;
  } catch {
    return undefined;
  }
}
