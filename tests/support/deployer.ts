import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { cacheDirectory } from "../../host/cache-directory.ts";
import { endProcess, identifyProcess, isRunning } from "../../host/process-identity.ts";
import { findWorkers } from "../../deployer/platforms/local/strays.ts";
import type { TestDatabase } from "./database.ts";
import { eventually } from "./services.ts";

const MAIN = fileURLToPath(new URL("../../deployer/main.ts", import.meta.url));

export interface TestDeployer {
  process: ChildProcess;
  output(): string;
  /** Resolves when the log tells of this event. */
  event(name: string): Promise<string>;
  /** SIGTERM; the exit code. */
  stop(): Promise<number | null>;
  /** SIGKILL. */
  kill(): Promise<void>;
}

/** A machine's worth of deployers: one state directory, the real program, short times. */
export function createMachine(database: Pick<TestDatabase, "deployerUrl" | "rows">, temporalAddress: () => string) {
  const stateDirectory = mkdtempSync(join(tmpdir(), "osp-test-deployer-"));
  const started: TestDeployer[] = [];
  return {
    stateDirectory,
    /** @param through a command that runs the one that follows it, such as `["nice"]` */
    start(environment: Record<string, string> = {}, through: string[] = []): TestDeployer {
      const deployer = startDeployer(through, {
        PATH: process.env["PATH"] ?? "",
        HOME: process.env["HOME"] ?? "",
        OSP_CACHE_DIR: cacheDirectory(process.env),
        DATABASE_URL: database.deployerUrl,
        OSP_PLATFORM: "local",
        OSP_STATE_DIR: stateDirectory,
        TEMPORAL_ADDRESS: temporalAddress(),
        // Endpoints of tests are on this machine.
        OSP_ACTIVITY_NETWORKS: "127.0.0.0/8",
        OSP_LEASE_SECONDS: "2",
        OSP_RENEW_SECONDS: "0.4",
        OSP_POLL_SECONDS: "0.2",
        OSP_RETRY_SECONDS: "0.1",
        OSP_DEFER_SECONDS: "0.1",
        OSP_DRAIN_SECONDS: "3",
        OSP_SHUTDOWN_SECONDS: "3",
        ...environment,
      });
      started.push(deployer);
      return deployer;
    },
    /** Ids of the worker processes of this database that run now. */
    async workers(): Promise<number[]> {
      const [row] = await database.rows<{ instance: string }>(
        `select instance from osp_metadata.platforms where name = 'local'`,
      );
      return findWorkers(join(stateDirectory, "workers"), row?.instance ?? "").map(({ pid }) => pid);
    },
    /** Output of a worker. */
    workerLog: (schema: string, revision: number) =>
      readFileSync(join(stateDirectory, "workers", schema, `${revision}.log`), "utf8"),
    workerFiles: (schema: string) => readdirSync(join(stateDirectory, "workers", schema)),
    async clear(): Promise<void> {
      await Promise.all(started.map((deployer) => deployer.kill()));
      for (const pid of await this.workers()) {
        const worker = identifyProcess(pid);
        if (worker) await endProcess(worker, 8000);
      }
      rmSync(stateDirectory, { recursive: true, force: true });
    },
  };
}

function startDeployer(through: string[], environment: Record<string, string>): TestDeployer {
  const [program, ...args] = [...through, process.execPath, MAIN];
  const child = spawn(program, args, { env: environment, stdio: ["ignore", "pipe", "pipe"] });
  let output = "";
  child.stdout.on("data", (chunk) => output += chunk);
  child.stderr.on("data", (chunk) => output += chunk);
  const exited = once(child, "exit");
  return {
    process: child,
    output: () => output,
    event: (name) => eventually(() => Promise.resolve(output), (text) => text.includes(`"event":"${name}"`)),
    async stop() {
      child.kill("SIGTERM");
      await exited;
      return child.exitCode;
    },
    async kill() {
      const identity = child.pid === undefined ? undefined : identifyProcess(child.pid);
      if (identity === undefined || !isRunning(identity)) return;
      child.kill("SIGKILL");
      await exited;
    },
  };
}
