import { Connection } from "@temporalio/client";
import { loadClientConnectConfig } from "@temporalio/envconfig";
import { formatError } from "../../supabase/functions/_shared/problems.ts";
import { StartError } from "../start-error.ts";

/** Temporal as the workers reach it. */
export interface TemporalService {
  readonly connection: Connection;
  readonly namespace: string;
  /** Runs a call that gives up after `CALL_TIMEOUT_MS`. */
  ask<Result>(call: () => Promise<Result>): Promise<Result>;
  /** What an error of `ask` says to people. */
  explain(error: unknown): string;
  close(): Promise<void>;
}

const CALL_TIMEOUT_MS = 3000;

/**
 * Connects with the first call.
 *
 * @param environment Temporal's variables, as the workers have them
 * @throws {StartError} when they cannot be used
 */
export function openTemporal(environment: Record<string, string>): TemporalService {
  const { connectionOptions, namespace = "default" } = readConnection(environment);
  const connection = Connection.lazy(connectionOptions);
  return {
    connection,
    namespace,
    ask: (call) => connection.withDeadline(Date.now() + CALL_TIMEOUT_MS, call),
    explain: (error) =>
      `Temporal at ${connectionOptions.address ?? "localhost:7233"} does not answer: ${formatError(error)}`,
    close: () => connection.close(),
  };
}

function readConnection(environment: Record<string, string>) {
  try {
    return loadClientConnectConfig({
      overrideEnvVars: environment,
      disableFile: environment["TEMPORAL_CONFIG_FILE"] === undefined,
    });
  } catch (error) {
    throw new StartError(`Cannot start the deployer: Temporal's settings: ${formatError(error)}`, { cause: error });
  }
}
