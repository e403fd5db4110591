import { type ChildProcess, spawn } from "node:child_process";
import { cpSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import pg from "pg";
import { findWorkers } from "../../deployer/platforms/local/strays.ts";
import { cacheDirectory } from "../../host/cache-directory.ts";
import { identifyProcess, isRunning, type ProcessIdentity } from "../../host/process-identity.ts";

const LAUNCH_WORKER = fileURLToPath(new URL("../../worker/launch-worker.ts", import.meta.url));
const FOREIGN_SERVICE = "another_database";
const POLL_MS = 50;

/** Worker processes of one database, by service; more than one of a service is what must not be. */
export type Workers = Map<string, number[]>;

/** The fleet of a stack, looked at from outside: its processes and its tables. */
export interface Fleet {
  rows<Row = Record<string, unknown>>(sql: string): Promise<Row[]>;
  workers(): Workers;
  /** Removes all that the worker of a service runs from, its record included. */
  erase(serviceSchema: string): void;
  /** A real worker below the same directory, of a service like the given one, that carries another database's marker. */
  startForeign(like: string): Promise<ProcessIdentity>;
  close(): Promise<void>;
}

export async function openFleet(
  directory: string,
  addresses: Record<string, string>,
  environment: NodeJS.ProcessEnv,
): Promise<Fleet> {
  const client = new pg.Client({ connectionString: addresses["DB_URL"] });
  client.on("error", () => {}); // the query that follows tells it
  await client.connect();
  const { rows: [platform] } = await client.query(`select instance from osp_metadata.platforms where name = 'local'`);
  const instance = String(Object(platform).instance);
  const workersDirectory = join(directory, "workers");
  let foreign: ChildProcess | undefined;
  return {
    rows: async (sql) => (await client.query(sql)).rows,
    workers() {
      const found: Workers = new Map();
      for (const { serviceSchema, pid } of findWorkers(workersDirectory, instance)) {
        found.set(serviceSchema, [...found.get(serviceSchema) ?? [], pid]);
      }
      return found;
    },
    erase: (serviceSchema) => rmSync(join(workersDirectory, serviceSchema), { recursive: true, force: true }),
    async startForeign(like) {
      const codeRoot = join(workersDirectory, FOREIGN_SERVICE, "1");
      mkdirSync(join(codeRoot, ".."), { recursive: true });
      cpSync(join(workersDirectory, like, "1"), codeRoot, { recursive: true });
      renameManifest(codeRoot, like, FOREIGN_SERVICE);
      foreign = spawn(process.execPath, [LAUNCH_WORKER], {
        cwd: codeRoot,
        env: {
          PATH: environment["PATH"],
          HOME: environment["HOME"],
          OSP_CACHE_DIR: cacheDirectory(environment),
          TEMPORAL_ADDRESS: addresses["TEMPORAL_ADDRESS"],
          OSP_ACTIVITY_NETWORKS: "127.0.0.1",
          MANIFEST_PATH: `manifests/${FOREIGN_SERVICE}.json`,
          OSP_INSTANCE: crypto.randomUUID(),
          OSP_DRAIN_SECONDS: "0",
        },
        stdio: ["ignore", "pipe", "ignore"],
      });
      let output = "";
      foreign.stdout?.on("data", (chunk) => output += chunk);
      const identity = foreign.pid === undefined ? undefined : identifyProcess(foreign.pid);
      if (identity === undefined) throw new Error("Cannot start a worker of another database");
      await until("a worker of another database is ready", 60, () => Promise.resolve(output.includes("worker.ready")));
      return identity;
    },
    async close() {
      foreign?.kill("SIGKILL");
      await client.end().catch(() => {});
    },
  };
}

function renameManifest(codeRoot: string, from: string, to: string): void {
  const [old, renamed] = [from, to].map((name) => join(codeRoot, "manifests", `${name}.json`));
  if (old === undefined || renamed === undefined) return;
  writeFileSync(old, readFileSync(old, "utf8").replaceAll(from, to));
  renameSync(old, renamed);
}

/** By SIGKILL, all of them at once. */
export function killAll(workers: Workers): void {
  for (const pid of [...workers.values()].flat()) process.kill(pid, "SIGKILL");
}

/** Each of these services has exactly one worker, and none of those from before. */
export function isRenewed(services: string[], before: Workers, now: Workers): boolean {
  return services.every((service) => {
    const pids = now.get(service) ?? [];
    return pids.length === 1 && !before.get(service)?.includes(pids[0] ?? 0);
  });
}

export function stillRuns(process: ProcessIdentity): boolean {
  return isRunning(process);
}

/** @throws {Error} naming what was waited for, where it does not come true in time */
export async function until(what: string, seconds: number, isTrue: () => Promise<boolean>): Promise<void> {
  for (const deadline = Date.now() + seconds * 1000; !await isTrue(); await pause(POLL_MS)) {
    if (Date.now() > deadline) throw new Error(`Not within ${seconds} s: ${what}`);
  }
}
