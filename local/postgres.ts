import { spawn } from "node:child_process";
import { chownSync, existsSync, mkdirSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { Client } from "pg";
import { identifyProcess, isRunning, type ProcessIdentity, signalProcess } from "../host/process-identity.ts";
import { type Account, accountForPostgres, canReach, homeOutsideOurs, runAs } from "./account.ts";
import { postgresBinaries } from "./postgres-binaries.ts";

export interface PostgresOptions {
  /** Where the cluster lies; made when it is absent. As root it may move, see `homeOutsideOurs`. */
  directory: string;
  /** TCP port on 127.0.0.1. */
  port: number;
  /** Server settings besides ours, such as `{ fsync: "off" }` for tests. */
  settings?: Record<string, string>;
}

export interface Postgres {
  url: string;
  process: ProcessIdentity;
  dataDirectory: string;
  /** Fast shutdown: open transactions are rolled back, everything committed is on disk. */
  stop(): Promise<void>;
}

const START_TIMEOUT_MS = 60_000;
const STOP_TIMEOUT_MS = 30_000;
/** As `supabase start` has it, so that tools find the same URL; the server listens on 127.0.0.1 alone. */
const PASSWORD = "postgres";

/**
 * A Postgres 17 server on 127.0.0.1, in a process group of its own so that Ctrl-C in a terminal reaches us and not it.
 * A server that an earlier, killed run left on the same directory is ended first.
 *
 * @throws {Error} with the end of the server's log when it does not come up
 */
export async function startPostgres({ directory, port, settings = {} }: PostgresOptions): Promise<Postgres> {
  const account = accountForPostgres();
  const dataDirectory = placeCluster(directory, account);
  const binaries = await postgresBinaries(account);
  await endLeftoverServer(dataDirectory);
  if (!existsSync(join(dataDirectory, "PG_VERSION"))) await createCluster(binaries.initdb, dataDirectory, account);

  const logFile = join(dirname(dataDirectory), "postgres.log");
  const child = spawn(binaries.postgres, ["-D", dataDirectory, ...flags({ ...ourSettings(port), ...settings })], {
    ...runAs(account),
    detached: true,
    stdio: ["ignore", openSync(logFile, "a"), openSync(logFile, "a")],
  });
  const identity = child.pid === undefined ? undefined : identifyProcess(child.pid);
  if (identity === undefined) throw new Error(`Cannot start Postgres: see ${logFile}`);
  child.unref();
  const url = `postgresql://postgres:${PASSWORD}@127.0.0.1:${port}/postgres`;
  await untilServing(url, dataDirectory, identity, logFile);
  return { url, process: identity, dataDirectory, stop: () => stopServer(identity) };
}

function ourSettings(port: number): Record<string, string> {
  return {
    port: String(port),
    listen_addresses: "127.0.0.1",
    unix_socket_directories: "",
    max_connections: "200",
    timezone: "UTC",
    log_timezone: "UTC",
  };
}

function flags(settings: Record<string, string>): string[] {
  return Object.entries(settings).flatMap(([name, value]) => ["-c", `${name}=${value}`]);
}

/** Removes a cluster with its directory, also where it had to move. Nothing may run on it. */
export function removeCluster(directory: string): void {
  const note = join(directory, "moved-to");
  if (existsSync(note)) rmSync(readFileSync(note, "utf8").trim(), { recursive: true, force: true });
  rmSync(directory, { recursive: true, force: true });
}

/** Root cannot run Postgres: the cluster then belongs to another account and lies where that account can reach it. */
function placeCluster(directory: string, account: Account | undefined): string {
  mkdirSync(directory, { recursive: true });
  const reachable = account === undefined || canReach(directory, account) ? directory : homeOutsideOurs(directory);
  mkdirSync(reachable, { recursive: true });
  if (account !== undefined) chownSync(reachable, account.uid, account.gid);
  // Tells people where the data lies when it had to move.
  if (reachable !== directory) writeFileSync(join(directory, "moved-to"), `${reachable}\n`);
  return join(reachable, "data");
}

async function createCluster(initdb: string, dataDirectory: string, account: Account | undefined): Promise<void> {
  const passwordFile = join(dirname(dataDirectory), "initdb-password");
  writeFileSync(passwordFile, `${PASSWORD}\n`, { mode: 0o600 });
  if (account !== undefined) chownSync(passwordFile, account.uid, account.gid);
  // An initdb that was cut off leaves a directory without PG_VERSION, or half a cluster: it starts from nothing.
  const building = `${dataDirectory}.new`;
  rmSync(building, { recursive: true, force: true });
  const { execa } = await import("execa");
  await execa(initdb, [
    `--pgdata=${building}`,
    "--username=postgres",
    `--pwfile=${passwordFile}`,
    "--auth=scram-sha-256",
    "--encoding=UTF8",
    "--locale=C",
    "--no-instructions",
  ], { ...runAs(account), extendEnv: false });
  await execa("mv", [building, dataDirectory], { ...runAs(account), extendEnv: false });
  rmSync(passwordFile);
}

async function endLeftoverServer(dataDirectory: string): Promise<void> {
  const pidFile = join(dataDirectory, "postmaster.pid");
  if (!existsSync(pidFile)) return;
  const pid = Number(readFileSync(pidFile, "utf8").split("\n")[0]);
  const identity = Number.isInteger(pid) && pid > 1 ? identifyProcess(pid) : undefined;
  if (identity !== undefined && isServerOf(pid, dataDirectory)) await stopServer(identity);
  // Postgres itself refuses to start when the pid in the file now belongs to somebody else.
  rmSync(pidFile, { force: true });
}

function isServerOf(pid: number, dataDirectory: string): boolean {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0").includes(dataDirectory);
  } catch {
    return process.platform !== "linux"; // without /proc the pid file is believed
  }
}

async function untilServing(
  url: string,
  dataDirectory: string,
  server: ProcessIdentity,
  logFile: string,
): Promise<void> {
  const deadline = Date.now() + START_TIMEOUT_MS;
  for (;;) {
    const client = new Client({ connectionString: url, connectionTimeoutMillis: 2000 });
    client.on("error", () => {}); // a connection that the starting server cuts is told by connect() as well
    try {
      await client.connect();
      const { rows } = await client.query("show data_directory");
      if (rows[0]?.data_directory === dataDirectory) return;
      // With the same password as ours: the port decides, and ours ends by itself.
      throw new Error(`another Postgres answers on its port, that of ${rows[0]?.data_directory}`);
    } catch (error) {
      if (!isRunning(server)) throw new Error(`Postgres ended while starting: ${logTail(logFile)}`, { cause: error });
      if (Date.now() > deadline) throw new Error(`Postgres does not answer: ${logTail(logFile)}`, { cause: error });
      await pause(25);
    } finally {
      await client.end().catch(() => {});
    }
  }
}

/** Fast shutdown of a server, ours or one that a killed run left. */
export async function stopServer(server: ProcessIdentity): Promise<void> {
  process.kill(server.pid, "SIGINT"); // to the postmaster alone: it ends its own children in order
  const deadline = Date.now() + STOP_TIMEOUT_MS;
  while (isRunning(server)) {
    if (Date.now() > deadline) {
      signalProcess(server, "SIGKILL");
      return;
    }
    await pause(20);
  }
}

function logTail(logFile: string): string {
  const lines = readFileSync(logFile, "utf8").trimEnd().split("\n");
  return `${lines.slice(-8).join("\n")}\n(the whole log: ${logFile})`;
}
