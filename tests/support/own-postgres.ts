import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { freePort } from "../../host/free-port.ts";
import type { TestDatabase } from "./database.ts";
import { migrations } from "./global-setup.ts";
import { type PostgresServer, startPostgresServer } from "./postgres-server.ts";

/** A Postgres server of one test file, migrated, to be stopped and started again. */
export type OwnPostgres = PostgresServer & Pick<TestDatabase, "deployerUrl">;

export async function startOwnPostgres(): Promise<OwnPostgres> {
  const directory = mkdtempSync(join(tmpdir(), "osp-test-postgres-"));
  const server = await startPostgresServer(directory, await freePort());
  for (const sql of migrations()) await server.rows(sql);
  await server.rows(`create role osp_test_deployer login password 'osp_test' in role osp_deployer`);
  return { ...server, deployerUrl: server.url.replace("postgres:postgres@", "osp_test_deployer:osp_test@") };
}
