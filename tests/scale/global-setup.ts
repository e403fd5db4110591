import { mkdtempSync, readdirSync, readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import pg from "pg";
import type { TestProject } from "vitest/node";
import { freePort } from "../../host/free-port.ts";
import { removeCluster, startPostgres } from "../../local/postgres.ts";
import { loadFleet } from "../support/fleet.ts";

declare module "vitest" {
  export interface ProvidedContext {
    /** A database that holds `fleetSize`, as a superuser. */
    fleetUrl: string;
  }
}

/** A million rows of the registry, and their attempts. */
const SIZE = { services: 100_000, revisions: 10 };

const settings = {
  // What is lost with the machine is loaded again.
  fsync: "off",
  full_page_writes: "off",
  // Tables that are filled in the transaction that empties them write no WAL.
  wal_level: "minimal",
  max_wal_senders: "0",
  max_wal_size: "4GB",
  // It would come in the middle of a measurement, or would not: what is proven here holds without it.
  autovacuum: "off",
};

export default async function setup(project: TestProject) {
  const directory = mkdtempSync(join(tmpdir(), "osp-scale-postgres-"));
  const postgres = await startPostgres({ directory, port: await freePort(), settings });
  const end = async () => {
    await postgres.stop();
    removeCluster(directory);
  };
  try {
    await query(postgres.url, async (client) => {
      await client.query(`create database osp_fleet`);
    });
    const fleetUrl = postgres.url.replace(/postgres$/, "osp_fleet");
    await query(fleetUrl, async (client) => {
      for (const migration of migrations()) await client.query(migration);
      await client.query(`create role osp_test_deployer login password 'osp_test' in role osp_deployer`);
      const startedAt = performance.now();
      await loadFleet(client, SIZE);
      console.error(`Scale: the fleet is loaded in ${((performance.now() - startedAt) / 1000).toFixed(0)} s`);
    });
    project.provide("fleetUrl", fleetUrl);
  } catch (error) {
    await end();
    throw error;
  }
  return end;
}

function migrations(): string[] {
  const directory = new URL("../../supabase/migrations/", import.meta.url);
  return readdirSync(directory).sort().map((name) => readFileSync(new URL(name, directory), "utf8"));
}

async function query(connectionString: string, work: (client: pg.Client) => Promise<void>): Promise<void> {
  const client = new pg.Client({ connectionString });
  await client.connect();
  try {
    await work(client);
  } finally {
    await client.end();
  }
}
