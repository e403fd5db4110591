import { existsSync } from "node:fs";
import { loadClientConnectConfig } from "@temporalio/envconfig";
import type { NativeConnectionOptions } from "@temporalio/worker";
import { describeError } from "./exit.ts";

export interface TemporalTarget {
  connectionOptions: NativeConnectionOptions;
  namespace: string;
  /** For messages. */
  address: string;
}

/**
 * Where Temporal is, from its own environment variables.
 *
 * `@temporalio/envconfig` takes what it does not understand for "off" and drops half a client certificate in silence:
 * both are problems here.
 *
 * @param variables trimmed, blank ones left out: an empty TEMPORAL_API_KEY would turn TLS on
 */
export function temporalTarget(
  variables: Record<string, string>,
): { target?: TemporalTarget; problems: readonly string[] } {
  const problems = problemsIn(variables);
  if (problems.length > 0) return { problems };
  try {
    const { connectionOptions, namespace } = loadClientConnectConfig({
      // Only where it is asked for: a stray file in a home directory must not choose the server.
      disableFile: variables["TEMPORAL_CONFIG_FILE"] === undefined,
      overrideEnvVars: { ...variables, ...normalizedTls(variables["TEMPORAL_TLS"]) },
    });
    const address = connectionOptions.address ?? "localhost:7233";
    const target = { connectionOptions: { ...connectionOptions, address }, namespace: namespace ?? "default", address };
    return { target, problems: [] };
  } catch (error) {
    return { problems: [`environment variables TEMPORAL_*: ${describeError(error)}`] };
  }
}

function problemsIn(variables: Record<string, string>): string[] {
  const problems: string[] = [];
  const { TEMPORAL_TLS: tls, TEMPORAL_CONFIG_FILE: file } = variables;
  if (tls !== undefined && !/^(1|0|true|false)$/i.test(tls)) {
    problems.push(`environment variable TEMPORAL_TLS: "${tls}" must be true or false`);
  }
  if (file !== undefined && !existsSync(file)) {
    problems.push(`environment variable TEMPORAL_CONFIG_FILE: there is no file "${file}"`);
  }
  const has = (name: string) => variables[`${name}_PATH`] !== undefined || variables[`${name}_DATA`] !== undefined;
  if (has("TEMPORAL_TLS_CLIENT_CERT") !== has("TEMPORAL_TLS_CLIENT_KEY")) {
    problems.push("environment variables TEMPORAL_TLS_CLIENT_CERT_* and TEMPORAL_TLS_CLIENT_KEY_*: both or none");
  }
  return problems;
}

function normalizedTls(tls: string | undefined): Record<string, string> {
  return tls === undefined ? {} : { TEMPORAL_TLS: tls.toLowerCase() };
}
