import { readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import pg from "pg";
import { isRunning } from "../../host/process-identity.ts";
import { removeCluster, startPostgres } from "../../local/postgres.ts";
import type { TestDatabase } from "./database.ts";

/** A Postgres server that is stopped and started again. */
export interface PostgresServer extends Pick<TestDatabase, "url" | "rows"> {
  /** Its own output. */
  logFile(): string;
  /** `fast`: transactions are rolled back, sessions ended. `immediate`: as if the machine had lost its power. */
  stop(how: "fast" | "immediate"): Promise<void>;
  /** On the same port and data. */
  start(): Promise<void>;
  /** Stops it where it runs, and removes its data. */
  remove(): Promise<void>;
}

const SIGNALS = { fast: "SIGINT", immediate: "SIGQUIT" } as const;

/** Each statement of `rows` has a connection of its own: none is cut by a restart that came before it. */
export async function startPostgresServer(directory: string, port: number): Promise<PostgresServer> {
  const options = { directory, port, settings: { fsync: "off" } };
  let server = await startPostgres(options);
  const { url } = server;
  return {
    url,
    logFile: () => join(server.dataDirectory, "..", "postgres.log"),
    async rows(sql, values) {
      const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 3000 });
      client.on("error", () => {}); // the server is stopped on purpose
      try {
        await client.connect();
        return (await client.query(sql, values)).rows;
      } finally {
        await client.end().catch(() => {});
      }
    },
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

/** Runs a file of SQL on it. */
export async function runSqlFile({ rows }: Pick<PostgresServer, "rows">, file: URL): Promise<void> {
  await rows(readFileSync(file, "utf8"));
}
