import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import pg from "pg";
import { freePort } from "../../host/free-port.ts";
import type { Progress } from "../../local/building.ts";
import { ANY_PORTS, parseConfig, type StackConfig } from "../../local/config.ts";
import { configureDatabase, migrate, prepareDatabase } from "../../local/database.ts";
import { startPostgres } from "../../local/postgres.ts";
import type { StackAddresses } from "../../local/stack-programs.ts";
import { startStack } from "../../local/stack.ts";
import { clusterDirectory, removeState } from "../../local/stack-state.ts";

export interface StackToMeasure {
  client: pg.Client;
  addresses: StackAddresses;
  config: StackConfig;
}

/** A full local stack for as long as `work` takes, with nothing of an earlier one. */
export async function withStack<Result>(
  environment: NodeJS.ProcessEnv,
  progress: Progress,
  work: (stack: StackToMeasure) => Promise<Result>,
): Promise<Result> {
  return await withScratch(async (directory) => {
    const config = parseConfig({ ...environment, OSP_STATE_DIR: directory, ...ANY_PORTS });
    const stack = await startStack(config, environment, progress);
    try {
      return await withClient(
        stack.addresses.DB_URL,
        (client) => work({ client, addresses: stack.addresses, config }),
      );
    } finally {
      await stack.stop();
    }
  });
}

/** A Postgres by itself, with nothing in it. @param settings of the server besides ours */
export async function withServer<Result>(
  progress: Progress,
  settings: Record<string, string>,
  work: (url: string) => Promise<Result>,
): Promise<Result> {
  return await withScratch(async (directory) => {
    const postgres = await progress.step(
      "Postgres 17, alone",
      async () => await startPostgres({ directory: clusterDirectory(directory), port: await freePort(), settings }),
    );
    try {
      return await work(postgres.url);
    } finally {
      await postgres.stop();
    }
  });
}

/**
 * The stack's Postgres by itself, migrated, with pg_net's stand-in and the Vault, so that a change rings as it does in a
 * stack. Nobody answers: what is measured is the statement, and ten thousand services are not to be deployed.
 */
export async function withDatabase<Result>(
  progress: Progress,
  work: (client: pg.Client) => Promise<Result>,
): Promise<Result> {
  // An autovacuum that begins in the middle of a run would be counted against it.
  return await withServer(progress, { autovacuum: "off" }, async (url) => {
    await prepareDatabase(url);
    await progress.step("Migrations", () => migrate(url));
    await configureDatabase(url, "http://127.0.0.1:9/functions/v1", {
      PUBLISHABLE_KEY: "",
      SECRET_KEY: "",
      OSP_WEBHOOK_SECRET: "of-a-benchmark",
      DEPLOYER_PASSWORD: "of-a-benchmark",
      OSP_ACTIVITY_SECRET: "of-a-benchmark",
    });
    return await withClient(url, work);
  });
}

export async function withClient<Result>(url: string, work: (client: pg.Client) => Promise<Result>): Promise<Result> {
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 10_000 });
  client.on("error", () => {}); // cut while at work: the query under way tells it
  await client.connect();
  try {
    return await work(client);
  } finally {
    await client.end().catch(() => {});
  }
}

export async function withScratch<Result>(work: (directory: string) => Promise<Result>): Promise<Result> {
  const directory = mkdtempSync(join(tmpdir(), "osp-bench-"));
  try {
    return await work(directory);
  } finally {
    removeState(directory);
  }
}
