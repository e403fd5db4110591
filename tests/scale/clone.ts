import pg from "pg";
import { afterAll, beforeAll, inject } from "vitest";

/** A copy of the fleet that a test file may change; its URL is there once the tests begin. */
export function useFleetClone(name: string): { url(): string; deployerUrl(): string; connect(): Promise<pg.Client> } {
  const fleetUrl = inject("fleetUrl");
  const url = fleetUrl.replace(/[^/]+$/, name);
  const maintenance = fleetUrl.replace(/[^/]+$/, "postgres");
  const clients: pg.Client[] = [];
  beforeAll(async () => {
    // Copied as files: the default writes every page through the log.
    await once(maintenance, `create database ${name} template ${fleetUrl.split("/").at(-1)} strategy file_copy`);
  });
  afterAll(async () => {
    await Promise.all(clients.map((client) => client.end().catch(() => {})));
    await once(maintenance, `drop database ${name} with (force)`);
  });
  return {
    url: () => url,
    deployerUrl: () => url.replace("postgres:postgres@", "osp_test_deployer:osp_test@"),
    async connect() {
      const client = new pg.Client({ connectionString: url });
      client.on("error", () => {});
      await client.connect();
      clients.push(client);
      return client;
    },
  };
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
