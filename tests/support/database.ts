import { randomBytes } from "node:crypto";
import pg from "pg";
import { afterAll, beforeAll, inject } from "vitest";

export interface TestDatabase {
  url: string;
  /** The same database, as a member of osp_deployer. */
  deployerUrl: string;
  /** Rows of one statement, on a pooled connection. */
  rows<Row = Record<string, unknown>>(sql: string, values?: unknown[]): Promise<Row[]>;
  /** A pool as a deployer has it; ended with the test file. `options`: server settings, such as `-c work_mem=1MB`. */
  deployerPool(max: number, options?: string): pg.Pool;
  /** A connection of its own, for transactions and races; ended with the test file. */
  connect(): Promise<pg.Client>;
}

/** A database of its own for the test file, cloned from the migrated template. */
export function useDatabase(): TestDatabase {
  const server = inject("postgresUrl");
  const name = `osp_test_${randomBytes(6).toString("hex")}`;
  const url = server.replace(/postgres$/, name);
  const deployerUrl = url.replace("postgres:postgres@", "osp_test_deployer:osp_test@");
  const clients: pg.Client[] = [];
  const pools: pg.Pool[] = [];
  let pool: pg.Pool;
  beforeAll(async () => {
    await once(server, `create database ${name} template osp_template`);
    pool = openPool(url, 8);
    // A clone carries its template's marker; workers of two test files must not be taken for each other's.
    await pool.query(`update osp_metadata.platforms set instance = gen_random_uuid()`);
  });
  afterAll(async () => {
    await Promise.all([pool, ...pools].map((one) => one.end()));
    await Promise.all(clients.map((client) => client.end().catch(() => {})));
    await once(server, `drop database ${name} with (force)`);
  });
  return {
    url,
    deployerUrl,
    rows: async (sql, values) => (await pool.query(sql, values)).rows,
    deployerPool(max, options) {
      const query = options === undefined ? "" : `?options=${encodeURIComponent(options)}`;
      const deployers = openPool(`${deployerUrl}${query}`, max);
      pools.push(deployers);
      return deployers;
    },
    async connect() {
      const client = new pg.Client({ connectionString: url });
      client.on("error", () => {});
      await client.connect();
      clients.push(client);
      return client;
    },
  };
}

/** The end of a database cuts what is still open; nobody waits for that any more. */
function openPool(url: string, max: number): pg.Pool {
  const pool = new pg.Pool({ connectionString: url, max });
  pool.on("error", () => {});
  pool.on("connect", (client) => client.on("error", () => {}));
  return pool;
}

async function once(url: string, sql: string): Promise<void> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    await client.query(sql);
  } finally {
    await client.end();
  }
}

/** What a statement that must fail fails with. */
export async function refusal(statement: Promise<unknown>): Promise<pg.DatabaseError> {
  try {
    await statement;
  } catch (error) {
    if (error instanceof pg.DatabaseError) return error;
    throw error;
  }
  throw new Error("The statement was to be refused, and was not");
}
