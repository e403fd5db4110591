import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import pg from "pg";
import type { ProcessIdentity } from "../../host/process-identity.ts";
import { ANY_PORTS } from "../../local/config.ts";
import { removeState } from "../../local/stack-state.ts";
import { eventually } from "./services.ts";

const REPOSITORY = new URL("../..", import.meta.url);

/** A state directory and whatever is started on it: `npm start` as a person has it, without npm. */
export function createStackDirectory() {
  const directory = mkdtempSync(join(tmpdir(), "osp-test-stack-"));

  function start(environment: Record<string, string> = {}) {
    const child = spawn(process.execPath, ["local/main.ts"], {
      cwd: REPOSITORY,
      env: { ...process.env, ...ANY_PORTS, OSP_STATE_DIR: directory, ...environment },
      stdio: ["ignore", "pipe", "pipe"],
    });
    let output = "";
    child.stdout.on("data", (chunk) => output += chunk);
    child.stderr.on("data", (chunk) => output += chunk);
    const exited = once(child, "exit");
    return {
      output: () => output,
      /** Resolves when the example has been shown. */
      async running(): Promise<void> {
        await eventually(
          () => Promise.resolve(output),
          (text) => text.includes("Running. Stop it") || child.exitCode !== null,
          120_000,
        );
        if (child.exitCode !== null) throw new Error(output);
      },
      /** Resolves with the exit code. */
      async end(signal: NodeJS.Signals): Promise<number | null> {
        if (child.exitCode === null && child.signalCode === null) child.kill(signal);
        await exited;
        return child.exitCode;
      },
      exited,
      process: child,
    };
  }

  return {
    directory,
    start,
    addresses(): Record<string, string> {
      const lines = readFileSync(join(directory, "stack.env"), "utf8").trim().split("\n");
      return Object.fromEntries(
        lines.map((line) => [line.slice(0, line.indexOf("=")), line.slice(line.indexOf("=") + 2, -1)]),
      );
    },
    /** The stack's own processes, as it wrote them down, by name. */
    processes(): Record<string, ProcessIdentity> {
      const file = join(directory, "processes.json");
      return existsSync(file) ? JSON.parse(readFileSync(file, "utf8")).children : {};
    },
    async query<Row = Record<string, unknown>>(sql: string, values: unknown[] = []): Promise<Row[]> {
      const client = new pg.Client({ connectionString: this.addresses()["DB_URL"], connectionTimeoutMillis: 3000 });
      client.on("error", () => {});
      try {
        await client.connect();
        return (await client.query(sql, values)).rows;
      } finally {
        await client.end().catch(() => {});
      }
    },
    /** Ends whatever still runs, and removes the directory. */
    async clear(): Promise<void> {
      if (Object.keys(this.processes()).length === 0) return removeState(directory);
      const last = start({ OSP_DB_PORT: "0" }); // its first act is to end what a killed stack left
      await eventually(
        () => Promise.resolve(last.output()),
        (text) => text.includes("Deployer (") || last.process.exitCode !== null,
        120_000,
      );
      await last.end("SIGINT");
      removeState(directory);
    },
  };
}
