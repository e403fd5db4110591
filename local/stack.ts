import { freePort } from "../host/free-port.ts";
import type { Building, Progress } from "./building.ts";
import { allOrFirstFailure, launch, launchBesideSupabase } from "./building.ts";
import { PORT_SETTINGS, type StackConfig } from "./config.ts";
import { configureDatabase, migrate } from "./database.ts";
import { keepDatabase } from "./keep-database.ts";
import { choosePorts } from "./ports.ts";
import { launchDeployer, type StackPlatform } from "./stack-platform.ts";
import { addressesOf, apiProgram, doorbellProgram, functionsProgram, type StackAddresses } from "./stack-programs.ts";
import { readPorts, takeState, writePorts, writeStackEnv } from "./stack-state.ts";

export interface Stack {
  addresses: StackAddresses;
  /** Ends everything, workers included. */
  stop(): Promise<void>;
}

/** Which hosts a stack runs on: our own stand-ins of Supabase's, or those of `supabase start`. */
export interface Hosts {
  /** Settings of the ports that it listens on. */
  ports: readonly (typeof PORT_SETTINGS)[number][];
  bringUp(building: Building): Promise<StackAddresses>;
}

/** What a stack is made of, where it is not the usual. */
export interface StackParts {
  hosts?: Hosts;
  platform?: StackPlatform;
}

/**
 * Brings up the whole stack on this machine: Postgres, the API with the real Edge Functions, the doorbell, Temporal, an
 * example of an endpoint for activities, and the deployer.
 *
 * @param environment whose PATH, HOME and tool settings are used
 * @throws {StackError} saying what is in the way and what to do; what had started is ended
 */
export async function startStack(
  config: StackConfig,
  environment: NodeJS.ProcessEnv,
  progress: Progress,
  { hosts = ownHosts, platform = "local" }: StackParts = {},
): Promise<Stack> {
  const state = await takeState(config.OSP_STATE_DIR);
  progress.say("Starting the stack");
  const stops: Building["stops"] = [];
  let stopping: Promise<void> | undefined;
  const stop = () => stopping ??= endAll(stops).finally(() => state.clear());
  try {
    const ports = await choosePorts(config, hosts.ports, readPorts(state.directory));
    writePorts(state.directory, ports);
    const addresses = await hosts.bringUp({ config, state, ports, platform, progress, environment, stops });
    const { OSP_WEBHOOK_SECRET, OSP_ACTIVITY_SECRET } = state.keys;
    writeStackEnv(state.directory, { ...addresses, OSP_WEBHOOK_SECRET, OSP_ACTIVITY_SECRET });
    return { addresses, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

async function endAll(stops: Building["stops"]): Promise<void> {
  const failures: unknown[] = [];
  for (const end of stops.toReversed()) await end().catch((error: unknown) => failures.push(error));
  if (failures.length > 0) throw new AggregateError(failures, "Not everything could be ended");
}

/** Postgres, API, functions and doorbell as processes of ours, without Docker. */
const ownHosts: Hosts = {
  ports: PORT_SETTINGS,
  async bringUp(building) {
    const { config, state, ports, progress } = building;
    const addresses = addressesOf(ports, state);
    const functionsPort = await freePort();
    await progress.step("Postgres 17", async () => {
      addresses.DB_URL = await keepDatabase(building);
    });
    await allOrFirstFailure([
      ...launchBesideSupabase(addresses, building),
      progress.step(
        "Edge Functions (Deno)",
        () => launch(functionsProgram(addresses, functionsPort, config, state), building),
      ),
      (async () => {
        // Before the migrations: Storage's tables are its own, and one of them adds the bucket.
        await progress.step(
          "API (rest, storage)",
          () => launch(apiProgram(addresses, ports, functionsPort, state), building),
        );
        await progress.step("Migrations", () => migrate(addresses.DB_URL));
        await configureDatabase(addresses.DB_URL, addresses.FUNCTIONS_URL, state.keys);
      })(),
    ]);
    await progress.step("Doorbell (pg_net)", () => launch(doorbellProgram(addresses), building));
    await launchDeployer(addresses, building);
    return addresses;
  },
};
