import { type ChildProcess, spawn } from "node:child_process";
import { realpathSync } from "node:fs";
import { Readable } from "node:stream";
import { fileURLToPath } from "node:url";

export interface IsolatedRun {
  /** Program of ours, an absolute path. */
  script: string;
  args?: string[];
  cwd?: string;
  /** All of the child's environment: nothing of ours is handed down. */
  environment?: Record<string, string>;
  /** What it reads on stdin. */
  input?: string | Uint8Array;
  timeoutMs: number;
  signal?: AbortSignal;
  /**
   * What it may read besides our own sources and packages, and what it may write. It can start no process then, and no thread
   * and no native code but where `threads` and `addons` say so: Node's permission model, which native code is not held to, and which leaves the network
   * open. Left out: it may do what this process may.
   */
  access?: { read?: string[]; write?: string[]; addons?: boolean; threads?: boolean };
  /** Of JavaScript objects, in MB. */
  heapMb?: number;
}

export interface IsolatedEnd {
  code: number | null;
  signal: NodeJS.Signals | null;
  /** It was killed because it took longer than `timeoutMs`. */
  isLate: boolean;
  /** Each at most `MOST_OUTPUT` characters, of their end. */
  stdout: string;
  stderr: string;
  /** What it wrote to file descriptor 3, apart from whatever foreign code prints. */
  answer: string;
}

const MOST_OUTPUT = 1024 * 1024;
/** More is nobody's answer. */
const MOST_ANSWER = 16 * MOST_OUTPUT;

/**
 * Foreign code that loops is killed when it is late, but not by a parent that was killed itself: then the kernel does it. What the
 * shell adds to the environment is taken out again.
 */
const LIMITED = `ulimit -t "$1" || true; shift; exec /usr/bin/env -u PWD -u OLDPWD -u SHLVL -u _ "$@"`;
const PROCESSORS_AT_MOST = 8;

/**
 * Runs a program of ours in a process of its own with an empty environment: for what unpacks, bundles or loads foreign code.
 * The process and all that it started are killed when it is late or the signal aborts.
 *
 * An empty environment alone hides nothing from code that looks into /proc/<parent>/environ: where foreign code is loaded,
 * give `access`.
 *
 * @throws the signal's reason
 */
export async function runIsolated(run: IsolatedRun): Promise<IsolatedEnd> {
  run.signal?.throwIfAborted();
  const command = [process.execPath, ...optionsOf(run), run.script, ...(run.args ?? [])];
  const cpuSeconds = Math.ceil(run.timeoutMs / 1000) * PROCESSORS_AT_MOST;
  const child = spawn("/bin/sh", ["-c", LIMITED, "sh", String(cpuSeconds), ...command], {
    env: run.environment ?? {},
    ...(run.cwd === undefined ? {} : { cwd: run.cwd }),
    // A process group of its own, so that what it starts ends with it.
    detached: true,
    stdio: ["pipe", "pipe", "pipe", "pipe"],
  });
  let isLate = false;
  const timer = setTimeout(() => {
    isLate = true;
    kill(child);
  }, run.timeoutMs);
  const onAbort = () => kill(child);
  run.signal?.addEventListener("abort", onAbort, { once: true });
  try {
    const [stdout, stderr, answer, { code, signal }] = await Promise.all([
      textOf(child.stdio[1], MOST_OUTPUT),
      textOf(child.stdio[2], MOST_OUTPUT),
      textOf(child.stdio[3], MOST_ANSWER),
      ended(child),
      feed(child, run.input),
    ]);
    run.signal?.throwIfAborted();
    return { code, signal, isLate, stdout, stderr, answer };
  } finally {
    clearTimeout(timer);
    run.signal?.removeEventListener("abort", onAbort);
  }
}

/** Our sources and packages: not the repository, whose other directories hold keys. */
function readableByAll(): string[] {
  const root = new URL("../", import.meta.url);
  return ["host", "worker", "client", "deployer", "supabase/functions/_shared", "node_modules", "package.json"].flatMap(
    (name) => {
      try {
        return [realpathSync(fileURLToPath(new URL(name, root))), fileURLToPath(new URL(name, root))];
      } catch {
        return []; // a copy of the worker has not all of them
      }
    },
  );
}

function optionsOf({ access, heapMb }: IsolatedRun): string[] {
  // A child of its own might send SIGUSR1, and what listens then runs whatever connects.
  const always = ["--disable-sigusr1", ...(heapMb === undefined ? [] : [`--max-old-space-size=${heapMb}`])];
  if (access === undefined) return always;
  const read = new Set([...readableByAll(), ...(access.read ?? []), ...(access.write ?? [])]);
  return [
    ...always,
    "--permission",
    ...(access.addons === true ? ["--allow-addons"] : []),
    ...(access.threads === true ? ["--allow-worker"] : []),
    ...[...read].map((path) => `--allow-fs-read=${path}`),
    ...(access.write ?? []).map((path) => `--allow-fs-write=${path}`),
  ];
}

function kill({ pid }: ChildProcess): void {
  try {
    if (pid !== undefined) process.kill(-pid, "SIGKILL");
  } catch {
    // it has ended
  }
}

/** After `exit` the pipes may be held open by something that it left: that is ended, so that they close. */
async function ended(child: ChildProcess): Promise<{ code: number | null; signal: NodeJS.Signals | null }> {
  const { promise, resolve, reject } = Promise.withResolvers<Awaited<ReturnType<typeof ended>>>();
  child.on("error", reject);
  child.on("exit", (code, signal) => {
    kill(child);
    resolve({ code, signal });
  });
  return await promise;
}

async function feed({ stdin }: ChildProcess, input: IsolatedRun["input"]): Promise<void> {
  stdin?.on("error", () => {}); // it has ended, or does not read
  stdin?.end(input ?? "");
}

/** The end of what a stream brings. */
async function textOf(stream: unknown, most: number): Promise<string> {
  if (!(stream instanceof Readable)) return ""; // it could not be started
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of stream) {
    chunks.push(chunk);
    bytes += chunk.length;
    while (bytes - (chunks[0]?.length ?? 0) > most) bytes -= chunks.shift()?.length ?? 0;
  }
  return Buffer.concat(chunks).toString("utf8").slice(-most);
}
