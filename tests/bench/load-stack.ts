import { freePort } from "../../host/free-port.ts";
import { allOrFirstFailure, launch, type Progress } from "../../local/building.ts";
import { ANY_PORTS, parseConfig } from "../../local/config.ts";
import { configureDatabase, deployerUrl, migrate } from "../../local/database.ts";
import { keepDatabase } from "../../local/keep-database.ts";
import { addressesOf, apiProgram, doorbellProgram, functionsProgram } from "../../local/stack-programs.ts";
import { type Hosts, startStack } from "../../local/stack.ts";
import { withClient, withScratch } from "./scratch.ts";
import type pg from "pg";

export interface LoadStack {
  client: pg.Client;
  databaseUrl: string;
  /** As a member of osp_deployer. */
  deployerUrl: string;
  functionsUrl: string;
  webhookSecret: string;
  /** Where its programs' process ids stand. */
  directory: string;
}

/**
 * A local stack that ends where a deployer begins: database, API, Edge Function and doorbell. No Temporal and no workers: ten
 * thousand of them would be a benchmark of the machine.
 */
export async function withLoadStack<Result>(
  environment: NodeJS.ProcessEnv,
  progress: Progress,
  work: (stack: LoadStack) => Promise<Result>,
): Promise<Result> {
  return await withScratch(async (directory) => {
    const endpoint = { OSP_DEFAULT_ACTIVITY_ENDPOINT: "http://127.0.0.1:9/{service_schema}/{activity}" };
    const config = parseConfig({ ...environment, ...endpoint, OSP_STATE_DIR: directory, ...ANY_PORTS });
    let keys: Parameters<typeof deployerUrl>[1] | undefined;
    const hosts: Hosts = {
      ports: ["OSP_DB_PORT", "OSP_API_PORT"],
      async bringUp(building) {
        const { state, ports } = building;
        keys = state.keys;
        const addresses = addressesOf(ports, state);
        const functionsPort = await freePort();
        await progress.step("Postgres 17", async () => addresses.DB_URL = await keepDatabase(building));
        await allOrFirstFailure([
          progress.step(
            "Edge Functions (Deno)",
            () => launch(functionsProgram(addresses, functionsPort, config, state), building),
          ),
          (async () => {
            await progress.step("API", () => launch(apiProgram(addresses, ports, functionsPort, state), building));
            await progress.step("Migrations", () => migrate(addresses.DB_URL));
            await configureDatabase(addresses.DB_URL, addresses.FUNCTIONS_URL, state.keys);
          })(),
        ]);
        await progress.step("Doorbell (pg_net)", () => launch(doorbellProgram(addresses), building));
        return addresses;
      },
    };
    const stack = await startStack(config, environment, progress, { hosts });
    try {
      if (keys === undefined) throw new Error("The stack came up without keys");
      const { DB_URL, FUNCTIONS_URL } = stack.addresses;
      const { OSP_WEBHOOK_SECRET } = keys;
      const urls = { databaseUrl: DB_URL, deployerUrl: deployerUrl(DB_URL, keys), functionsUrl: FUNCTIONS_URL };
      return await withClient(
        DB_URL,
        (client) => work({ client, ...urls, webhookSecret: OSP_WEBHOOK_SECRET, directory }),
      );
    } finally {
      await stack.stop();
    }
  });
}
