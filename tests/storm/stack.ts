import { join } from "node:path";
import { stopAllWorkers } from "../../deployer/platforms/local/stop-all.ts";
import { workersDirectory } from "../../deployer/platforms/local/worker-record.ts";
import { graceMs } from "../../deployer/platforms/local/workers.ts";
import { freePort } from "../../host/free-port.ts";
import { isRunning, type ProcessIdentity, signalProcess } from "../../host/process-identity.ts";
import { allOrFirstFailure, type Building, launch } from "../../local/building.ts";
import { ANY_PORTS, parseConfig, PORT_SETTINGS, StackError } from "../../local/config.ts";
import { configureDatabase, migrate, prepareDatabase } from "../../local/database.ts";
import { choosePorts } from "../../local/ports.ts";
import {
  addressesOf,
  apiProgram,
  deployerProgram,
  doorbellProgram,
  functionsProgram,
  type StackAddresses,
  type StackProgram,
  temporalProgram,
} from "../../local/stack-programs.ts";
import { type StackState, takeState } from "../../local/stack-state.ts";
import { findTemporalCli } from "../../local/temporal-cli.ts";
import { type PostgresServer, runSqlFile, startPostgresServer } from "../support/postgres-server.ts";
import { DEPLOYERS, type ProgramName } from "./commands.ts";

/** In the environment of every program of a storm: what is left of it is found by this. */
export const MARKER = "OSP_TEST_STORM";

/** After SIGTERM a worker has so long for what it has begun; 10 s later it is killed. */
const DRAIN_SECONDS = 3;

/** Everything that follows from a fault follows soon, and nothing of it uses a deployment up: only what is wrong with a row fails. */
const DEPLOYER_SETTINGS = {
  OSP_PLATFORM: "local",
  OSP_LEASE_SECONDS: "2",
  OSP_RENEW_SECONDS: "0.4",
  OSP_POLL_SECONDS: "0.2",
  OSP_SWEEP_SECONDS: "1",
  OSP_RECONCILE_SECONDS: "3",
  OSP_PLATFORM_RECONCILE_SECONDS: "2",
  OSP_MAX_ATTEMPTS: "50",
  OSP_RETRY_SECONDS: "0.1",
  OSP_RETRY_CAP_SECONDS: "2",
  OSP_DEFER_SECONDS: "0.1",
  OSP_DEFER_CAP_SECONDS: "2",
  OSP_DRAIN_SECONDS: String(DRAIN_SECONDS),
  OSP_SHUTDOWN_SECONDS: "3",
};

/** The product on one machine, as `npm start` has it, with three deployers and every part within reach of a fault. */
export interface StormStack {
  directory: string;
  workersDirectory: string;
  addresses: StackAddresses;
  webhookSecret: string;
  /** Where Temporal keeps its workflows. */
  temporalFile: string;
  postgres: PostgresServer;
  /** False: it does not run now, and is being started again. */
  signal(program: ProgramName, signal: NodeJS.Signals): boolean;
  /** Ends everything, workers included. */
  stop(): Promise<void>;
}

/**
 * @param say what the stack tells of itself, such as that a program died
 * @throws with everything ended that had started
 */
export async function startStormStack(
  directory: string,
  environment: NodeJS.ProcessEnv,
  say: (line: string) => void,
): Promise<StormStack> {
  const state = await takeState(directory);
  const processes = new Map<string, ProcessIdentity>();
  const stops: Building["stops"] = [];
  const stop = () => endAll(stops).finally(() => state.clear());
  try {
    const config = parseConfig({ ...environment, OSP_STATE_DIR: directory, ...ANY_PORTS });
    const building: Building = {
      config,
      state: watched(state, processes),
      ports: await choosePorts(config, PORT_SETTINGS, {}),
      progress: { say, step: (_, work) => work(say) },
      platform: "local",
      environment,
      stops,
    };
    const { addresses, postgres } = await bringUp(building);
    return {
      directory,
      workersDirectory: workersDirectory(directory),
      addresses,
      webhookSecret: state.keys.OSP_WEBHOOK_SECRET,
      temporalFile: join(directory, "temporal.db"),
      postgres,
      signal(program, signal) {
        const identity = processes.get(program);
        if (identity === undefined || !isRunning(identity)) return false;
        signalProcess(identity, signal);
        return true;
      },
      stop,
    };
  } catch (error) {
    await stop();
    throw error;
  }
}

/** Also a process that is only starting can be told to end. */
function watched(state: StackState, processes: Map<string, ProcessIdentity>): StackState {
  return {
    ...state,
    record(name, process) {
      processes.set(name, process);
      state.record(name, process);
    },
  };
}

async function endAll(stops: Building["stops"]): Promise<void> {
  const failures: unknown[] = [];
  for (const end of stops.toReversed()) await end().catch((error: unknown) => failures.push(error));
  if (failures.length > 0) throw new AggregateError(failures, "Not everything of the storm could be ended");
}

async function bringUp(building: Building): Promise<{ addresses: StackAddresses; postgres: PostgresServer }> {
  const { config, state, ports, stops, environment } = building;
  const start = (program: StackProgram) => launch(marked(program, state.directory), building);
  const addresses = addressesOf(ports, state);
  const functionsPort = await freePort();
  const postgres = await startPostgresServer(join(state.directory, "postgres"), ports.OSP_DB_PORT);
  stops.push(() => postgres.remove());
  addresses.DB_URL = postgres.url;
  await prepareDatabase(postgres.url);
  await runSqlFile(postgres, new URL("../../local/doorbell/faults.sql", import.meta.url));
  await allOrFirstFailure([
    start(temporalProgram(await temporalCli(environment), ports, state)),
    start(functionsProgram(addresses, functionsPort, config, state)),
    (async () => {
      // Before the migrations: Storage's tables are its own, and one of them adds the bucket.
      await start(apiProgram(addresses, ports, functionsPort, state));
      await migrate(postgres.url);
      await configureDatabase(postgres.url, addresses.FUNCTIONS_URL, state.keys);
    })(),
  ]);
  await start(doorbellProgram(addresses));
  // Ended after the deployers, which would start them again.
  stops.push(() => stopAllWorkers(workersDirectory(state.directory), graceMs(DRAIN_SECONDS)));
  const deployer = deployerProgram(addresses, config, state, DEPLOYER_SETTINGS, "deployer.started");
  await allOrFirstFailure(DEPLOYERS.map((name) => start({ ...deployer, name })));
  return { addresses, postgres };
}

function marked(program: StackProgram, directory: string): StackProgram {
  return { ...program, environment: { ...program.environment, [MARKER]: directory } };
}

async function temporalCli(environment: NodeJS.ProcessEnv): Promise<string> {
  const cli = await findTemporalCli(environment, () => {});
  if (cli === undefined) {
    throw new StackError("There is no Temporal CLI, and pip cannot install one: set TEMPORAL_CLI_PATH");
  }
  return cli;
}
