import { mkdtempSync, readdirSync, readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import pg from "pg";
import type { TestProject } from "vitest/node";
import { freePort } from "../../host/free-port.ts";
import { findTemporalCli } from "../../local/temporal-cli.ts";
import { removeCluster, startPostgres } from "../../local/postgres.ts";

declare module "vitest" {
  export interface ProvidedContext {
    /** A Postgres server for this run; `osp_template` in it holds the migrated schema. */
    postgresUrl: string;
  }
}

/** One Postgres for all test files; each clones a database of its own from a migrated template. */
export default async function setup(project: TestProject) {
  // Once, before test files run side by side.
  await findTemporalCli(process.env, (text) => console.error(`Temporal: ${text}`));
  const directory = mkdtempSync(join(tmpdir(), "osp-test-postgres-"));
  const postgres = await startPostgres({ directory, port: await freePort(), settings: { fsync: "off" } });
  await query(postgres.url, ["create database osp_template"]);
  const template = postgres.url.replace(/postgres$/, "osp_template");
  await query(template, migrations());
  // Deployers connect with the rights of osp_deployer and no other, so that every test of them is one of the grants.
  await query(postgres.url, ["create role osp_test_deployer login password 'osp_test' in role osp_deployer"]);
  project.provide("postgresUrl", postgres.url);
  return async () => {
    await postgres.stop();
    removeCluster(directory);
  };
}

/** In their order. */
export function migrations(): string[] {
  const directory = new URL("../../supabase/migrations/", import.meta.url);
  return readdirSync(directory).sort().map((name) => readFileSync(new URL(name, directory), "utf8"));
}

async function query(connectionString: string, statements: string[]): Promise<void> {
  const client = new pg.Client({ connectionString });
  await client.connect();
  for (const statement of statements) await client.query(statement);
  await client.end();
}
