import { setTimeout as pause } from "node:timers/promises";
import { execa } from "execa";
import pLimit from "p-limit";
import type { Scratch } from "../../scratch.ts";

export interface CliSettings {
  /** The native program. */
  binary: string;
  token: string;
  /** What the token is given as. A project token is of no use but to tell that it is one. */
  tokenKind: "RAILWAY_API_TOKEN" | "RAILWAY_TOKEN";
  /** What the site needs besides: PATH, proxies, certificates. */
  environment: Record<string, string>;
  timeoutSeconds: number;
  /** Calls at once; each takes about 25 MB. */
  concurrency: number;
  scratch: Scratch;
}

export interface CliCall {
  /** No secret: every user of the machine can read them. */
  args: string[];
  /** Given on stdin; left out, stdin is closed. */
  input?: string | undefined;
  signal?: AbortSignal | undefined;
}

/** How a call ended. The exit code is no verdict: see errors.ts. */
export interface CliResult {
  /** Undefined: killed, or never started. */
  exitCode: number | undefined;
  stdout: string;
  stderr: string;
  /** Why there is no exit code. */
  failure: "timeout" | "aborted" | "killed" | "not_started" | "too_much_output" | undefined;
}

export interface RailwayCli {
  /** @throws {PlatformError} unavailable, when there is no room for a HOME */
  run(call: CliCall): Promise<CliResult>;
}

/** A listing of 600 services is 0.2 MB. */
const MOST_OUTPUT_BYTES = 32 * 1024 * 1024;
/** After a SIGKILL of the whole group nothing can hold the output open but a process that left the group. */
const AFTER_KILL_MS = 5000;

/**
 * Runs "$@" in its own place. Descriptor 3 leads to the deployer, which never writes to it: when it ends, however it ends, the
 * deployer is gone, and the group is killed. Else a call would go on alone and undo what a successor has done meanwhile;
 * Node knows no signal at its parent's death.
 */
const GUARD = `(cat <&3; kill -9 0) >/dev/null 2>&1 & exec "$@" 3<&-`;

/** Runs the Railway CLI, each call in a HOME of its own: two calls that share one lose each other's writes. */
export function createRailwayCli(settings: CliSettings): RailwayCli {
  const limit = pLimit(settings.concurrency);
  return {
    run: (call) =>
      limit(async () => {
        call.signal?.throwIfAborted();
        const home = await settings.scratch.directory("home");
        try {
          return await runIn(home.path, call, settings);
        } finally {
          await home.remove();
        }
      }),
  };
}

async function runIn(home: string, call: CliCall, settings: CliSettings): Promise<CliResult> {
  const child = execa("/bin/sh", ["-c", GUARD, "sh", settings.binary, ...call.args], {
    cwd: home,
    env: environmentOf(home, settings),
    extendEnv: false, // Railway gives its containers variables that would make the CLI work on the deployer itself
    ...(call.input === undefined ? {} : { input: call.input }),
    stdio: [call.input === undefined ? "ignore" : "pipe", "pipe", "pipe", "pipe"],
    reject: false,
    stripFinalNewline: false,
    maxBuffer: MOST_OUTPUT_BYTES,
    detached: true, // leads a group, so that all of it can be killed
    cleanup: false,
  });
  // The guard holds its descriptor until then.
  child.nodeChildProcess.once("exit", () => killGroup(child.pid));
  const killed = Promise.withResolvers<"timeout" | "aborted">();
  const end = (why: "timeout" | "aborted") => {
    killGroup(child.pid);
    killed.resolve(why);
  };
  const onAbort = () => end("aborted");
  call.signal?.addEventListener("abort", onAbort, { once: true });
  if (call.signal?.aborted) onAbort();
  const timer = setTimeout(end, settings.timeoutSeconds * 1000, "timeout");
  try {
    const ended = child.then((result) => ({ result }));
    const first = await Promise.race([ended, killed.promise]);
    if (typeof first === "object") return resultOf(first.result);
    await Promise.race([ended, pause(AFTER_KILL_MS, undefined, { ref: false })]);
    return { exitCode: undefined, stdout: "", stderr: "", failure: first };
  } finally {
    clearTimeout(timer);
    call.signal?.removeEventListener("abort", onAbort);
    killGroup(child.pid);
  }
}

interface Ended {
  exitCode?: number | undefined;
  stdout?: unknown;
  stderr?: unknown;
  isMaxBuffer?: boolean;
  cause?: unknown;
  signal?: string | undefined;
}

/** What the shell ends with when it cannot run the program (POSIX, 2.8.2). */
const NOT_RUN = [126, 127];

function resultOf(ended: Ended): CliResult {
  const exitCode = ended.exitCode;
  const failure = ended.isMaxBuffer === true
    ? "too_much_output" as const
    : exitCode !== undefined && NOT_RUN.includes(exitCode)
    ? "not_started" as const
    : exitCode !== undefined
    ? undefined
    : ended.signal === undefined
    ? "not_started" as const
    : "killed" as const;
  const startError = failure === "not_started" && ended.cause instanceof Error ? ended.cause.message : "";
  return { exitCode, stdout: text(ended.stdout), stderr: text(ended.stderr) + startError, failure };
}

function text(output: unknown): string {
  return typeof output === "string" ? output : "";
}

function environmentOf(
  home: string,
  { token, tokenKind, environment, timeoutSeconds }: CliSettings,
): Record<string, string> {
  return {
    ...environment,
    HOME: home,
    TMPDIR: home,
    [tokenKind]: token,
    RAILWAY_NO_TELEMETRY: "1",
    RAILWAY_NO_AUTO_UPDATE: "1",
    RAILWAY_AGENT_ADVISORY: "0",
    RAILWAY_CAC_DEPRECATION_WARNING: "0",
    // The CLI gives up first and says why; being killed says nothing.
    RAILWAY_HTTP_TIMEOUT: String(Math.max(1, Math.floor(timeoutSeconds * 0.9))),
    RAILWAY_CALLER: "ci:osp-worker-automation",
    NO_COLOR: "1",
  };
}

function killGroup(pid: number | undefined): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, "SIGKILL");
  } catch {
    // gone already
  }
}
