import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import pg from "pg";
import { freePort } from "../../host/free-port.ts";
import { isRunning } from "../../host/process-identity.ts";
import { removeCluster, startPostgres } from "../../local/postgres.ts";
import type { TestDatabase } from "./database.ts";
import { migrations } from "./global-setup.ts";

/** A Postgres server of one test file, to be stopped and started again. */
export interface OwnPostgres extends Pick<TestDatabase, "url" | "deployerUrl" | "rows"> {
  /** `fast`: transactions are rolled back, sessions ended. `immediate`: as if the machine had lost its power. */
  stop(how: "fast" | "immediate"): Promise<void>;
  /** On the same port and data. */
  start(): Promise<void>;
  remove(): Promise<void>;
}

const SIGNALS = { fast: "SIGINT", immediate: "SIGQUIT" } as const;

export async function startOwnPostgres(): Promise<OwnPostgres> {
  const directory = mkdtempSync(join(tmpdir(), "osp-test-postgres-"));
  const options = { directory, port: await freePort(), settings: { fsync: "off" } };
  let server = await startPostgres(options);
  const { url } = server;
  const rows: OwnPostgres["rows"] = async (sql, values) => {
    const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 3000 });
    client.on("error", () => {}); // the server is stopped on purpose
    try {
      await client.connect();
      return (await client.query(sql, values)).rows;
    } finally {
      await client.end().catch(() => {});
    }
  };
  for (const sql of migrations()) await rows(sql);
  await rows(`create role osp_test_deployer login password 'osp_test' in role osp_deployer`);
  return {
    url,
    deployerUrl: url.replace("postgres:postgres@", "osp_test_deployer:osp_test@"),
    rows,
    async stop(how) {
      process.kill(server.process.pid, SIGNALS[how]);
      while (isRunning(server.process)) await pause(20);
    },
    async start() {
      server = await startPostgres(options);
    },
    async remove() {
      if (isRunning(server.process)) await server.stop();
      removeCluster(directory);
    },
  };
}
