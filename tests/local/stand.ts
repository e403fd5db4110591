import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import pg from "pg";
import { freePort } from "../../host/free-port.ts";
import { removeCluster, startPostgres } from "../../local/postgres.ts";

export const KEYS = { SECRET_KEY: `sb_secret_${"s".repeat(24)}`, PUBLISHABLE_KEY: `sb_publishable_${"p".repeat(24)}` };

/** A directory of this test file that everybody may enter: Postgres may run as another account. */
export function temporaryDirectory() {
  const path = mkdtempSync(join(tmpdir(), "osp-local-"));
  return { path, remove: () => rmSync(path, { recursive: true, force: true }) };
}

/** A Postgres of this test file alone, that can be restarted on its port. */
export async function startDatabase(directory: string) {
  const port = await freePort();
  const start = () => startPostgres({ directory: join(directory, "postgres"), port, settings: { fsync: "off" } });
  let running = await start();
  return {
    url: running.url,
    moved: () => readText(join(directory, "postgres", "moved-to")),
    stop: () => running.stop(),
    async start() {
      running = await start();
    },
    async remove() {
      await running.stop();
      removeCluster(join(directory, "postgres"));
    },
  };
}

function readText(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8").trim();
  } catch {
    return undefined;
  }
}

export async function connect(url: string): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: url });
  client.on("error", () => {}); // the database is restarted on purpose
  await client.connect();
  return client;
}

export interface TestProgram {
  port: number;
  url: string;
  child: ChildProcess;
  stdout(): string;
  stderr(): string;
  /** SIGTERM; the exit code. */
  stop(): Promise<number | null>;
}

/** A program of local/ as its users start it; ready when it says so. */
export async function startProgram(
  command: string,
  args: string[],
  environment: Record<string, string>,
): Promise<TestProgram> {
  const run = runProgram(command, args, environment);
  const ready = await eventually(() => {
    const line = run.stdout().split("\n").find((candidate) => candidate.includes('"ready"'));
    if (line !== undefined) return JSON.parse(line);
    if (run.child.exitCode !== null) throw new Error(`It ended with ${run.child.exitCode}: ${run.stderr()}`);
    return undefined;
  });
  return { ...run, port: ready.port, url: `http://127.0.0.1:${ready.port}` };
}

export const startNode = (file: string, environment: Record<string, string>) =>
  startProgram(process.execPath, [file], environment);

/** Runs a program that is expected to end by itself. */
export async function runToEnd(file: string, environment: Record<string, string>) {
  const run = runProgram(process.execPath, [file], environment);
  const [code] = run.child.exitCode === null ? await once(run.child, "exit") : [run.child.exitCode];
  return { code, stderr: run.stderr(), stdout: run.stdout() };
}

function runProgram(command: string, args: string[], environment: Record<string, string>) {
  const child = spawn(command, args, {
    env: { PATH: process.env["PATH"] ?? "", HOME: process.env["HOME"] ?? "/", ...environment },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const written = { stdout: "", stderr: "" };
  child.stdout.setEncoding("utf8").on("data", (text: string) => written.stdout += text);
  child.stderr.setEncoding("utf8").on("data", (text: string) => written.stderr += text);
  return {
    child,
    stdout: () => written.stdout,
    stderr: () => written.stderr,
    async stop() {
      const exited = child.exitCode === null && child.signalCode === null ? once(child, "exit") : undefined;
      child.kill("SIGTERM");
      await exited;
      return child.exitCode;
    },
  };
}

/** The first answer that is not undefined; an error of the last try when none comes in time. */
export async function eventually<Value>(
  ask: () => Value | undefined | Promise<Value | undefined>,
  timeoutMs = 20_000,
): Promise<Value> {
  const deadline = Date.now() + timeoutMs;
  for (;;) {
    const value = await ask();
    if (value !== undefined) return value;
    if (Date.now() > deadline) throw new Error(`Nothing after ${timeoutMs} ms`);
    await pause(20);
  }
}
