import { join } from "node:path";
import type { ProgramOptions } from "./child-program.ts";
import { readyLine } from "./child-program.ts";
import { REPOSITORY, type StackConfig } from "./config.ts";
import { deployerUrl } from "./database.ts";
import { functionsServerCommand } from "./functions-server-command.ts";
import { answers, type Ports } from "./ports.ts";
import type { StackState } from "./stack-state.ts";

/** Where a stack serves, by the names of `supabase status -o env`. */
export interface StackAddresses extends Record<string, string> {
  API_URL: string;
  FUNCTIONS_URL: string;
  DB_URL: string;
  PUBLISHABLE_KEY: string;
  SECRET_KEY: string;
  TEMPORAL_ADDRESS: string;
  TEMPORAL_UI_URL: string;
  ACTIVITY_URL: string;
}

export type StackProgram = Omit<ProgramOptions, "logFile" | "onStarted" | "onDied">;

export function addressesOf(ports: Ports, { keys }: StackState): StackAddresses {
  const api = `http://127.0.0.1:${ports.OSP_API_PORT}`;
  return {
    API_URL: api,
    FUNCTIONS_URL: `${api}/functions/v1`,
    DB_URL: "", // known when Postgres runs
    PUBLISHABLE_KEY: keys.PUBLISHABLE_KEY,
    SECRET_KEY: keys.SECRET_KEY,
    TEMPORAL_ADDRESS: `127.0.0.1:${ports.OSP_TEMPORAL_PORT}`,
    TEMPORAL_UI_URL: `http://127.0.0.1:${ports.OSP_TEMPORAL_UI_PORT}`,
    ACTIVITY_URL: `http://127.0.0.1:${ports.OSP_ACTIVITY_PORT}`,
  };
}

export function apiProgram(
  addresses: StackAddresses,
  ports: Ports,
  functionsPort: number,
  state: StackState,
): StackProgram {
  return nodeProgram("api", "local/api-server.ts", {
    DB_URL: addresses.DB_URL,
    OSP_API_PORT: String(ports.OSP_API_PORT),
    OSP_STATE_DIR: state.directory,
    SECRET_KEY: addresses.SECRET_KEY,
    PUBLISHABLE_KEY: addresses.PUBLISHABLE_KEY,
    FUNCTIONS_INTERNAL_URL: `http://127.0.0.1:${functionsPort}`,
  });
}

export function functionsProgram(
  addresses: StackAddresses,
  functionsPort: number,
  config: StackConfig,
  state: StackState,
): StackProgram {
  return {
    name: "functions",
    ...functionsServerCommand(),
    cwd: REPOSITORY,
    environment: {
      OSP_FUNCTIONS_PORT: String(functionsPort),
      SUPABASE_URL: addresses.API_URL,
      SUPABASE_SECRET_KEYS: JSON.stringify({ default: addresses.SECRET_KEY }),
      OSP_WEBHOOK_SECRET: state.keys.OSP_WEBHOOK_SECRET,
      OSP_DEFAULT_ACTIVITY_ENDPOINT: config.OSP_DEFAULT_ACTIVITY_ENDPOINT ??
        `${addresses.ACTIVITY_URL}/{service_schema}/{activity}`,
    },
    isReady: (output) => readyLine(output) !== undefined,
  };
}

export function activitiesProgram(ports: Ports, { keys }: StackState): StackProgram {
  return nodeProgram("activities", "local/activity-server.ts", {
    OSP_ACTIVITY_PORT: String(ports.OSP_ACTIVITY_PORT),
    OSP_ACTIVITY_SECRET: keys.OSP_ACTIVITY_SECRET,
  });
}

export function doorbellProgram(addresses: StackAddresses): StackProgram {
  return nodeProgram("doorbell", "local/doorbell.ts", { DB_URL: addresses.DB_URL });
}

export function temporalProgram(cli: string, ports: Ports, state: StackState): StackProgram {
  return {
    name: "temporal",
    command: cli,
    arguments: [
      ...["server", "start-dev", "--ip", "127.0.0.1", "--port", String(ports.OSP_TEMPORAL_PORT)],
      ...["--ui-port", String(ports.OSP_TEMPORAL_UI_PORT), "--log-level", "warn"],
      ...["--db-filename", join(state.directory, "temporal.db")],
    ],
    environment: {},
    isReady: () => answers(ports.OSP_TEMPORAL_PORT),
  };
}

/** Where there is no Temporal CLI, nor pip to install one. */
export function temporalBySdk(ports: Ports, state: StackState): StackProgram {
  return nodeProgram("temporal", "local/temporal-server.ts", {
    OSP_TEMPORAL_PORT: String(ports.OSP_TEMPORAL_PORT),
    OSP_TEMPORAL_UI_PORT: String(ports.OSP_TEMPORAL_UI_PORT),
    OSP_TEMPORAL_DB: join(state.directory, "temporal.db"),
  });
}

/** @param settings of its platform  @param startedBy event in its log after which it works */
export function deployerProgram(
  addresses: StackAddresses,
  config: StackConfig,
  state: StackState,
  settings: Record<string, string>,
  startedBy: string,
): StackProgram {
  const program = nodeProgram("deployer", "deployer/main.ts", {
    DATABASE_URL: deployerUrl(addresses.DB_URL, state.keys),
    OSP_STATE_DIR: state.directory,
    FUNCTIONS_URL: addresses.FUNCTIONS_URL,
    OSP_WEBHOOK_SECRET: state.keys.OSP_WEBHOOK_SECRET,
    SUPABASE_URL: addresses.API_URL,
    SUPABASE_SECRET_KEY: addresses.SECRET_KEY,
    TEMPORAL_ADDRESS: addresses.TEMPORAL_ADDRESS,
    OSP_ACTIVITY_SECRET: state.keys.OSP_ACTIVITY_SECRET,
    OSP_ACTIVITY_NETWORKS: config.OSP_ACTIVITY_NETWORKS,
    OSP_ACTIVITY_PLAIN_HTTP: config.OSP_ACTIVITY_PLAIN_HTTP,
    // On one's own machine nobody wants to wait: an example's activity takes no longer.
    OSP_DRAIN_SECONDS: "5",
    OSP_RECONCILE_SECONDS: "10",
    ...settings,
  });
  return { ...program, isReady: (output) => output.includes(startedBy) };
}

/** Needs to reach npm's registry, and so the home of whoever runs it. */
export function railwayProgram(state: StackState): StackProgram {
  return nodeProgram("railway", "local/railway-server.ts", { OSP_STATE_DIR: state.directory });
}

function nodeProgram(name: string, file: string, environment: Record<string, string>): StackProgram {
  return {
    name,
    command: process.execPath,
    arguments: [file],
    cwd: REPOSITORY,
    environment,
    isReady: (output) => readyLine(output) !== undefined,
  };
}
