import { findCli } from "./cli-binary.ts";
import type { CliSettings } from "./railway-cli.ts";

/** Proxies, which may hold a password. */
export const PROXIES = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy"];
/** All that the CLI needs from its site; nothing else reaches it. */
const INHERITED = ["PATH", ...PROXIES, "SSL_CERT_FILE", "SSL_CERT_DIR"];

export interface CliChoice {
  /** Undefined: `railway` on PATH. */
  path: string | undefined;
  token: string;
  timeoutSeconds: number;
}

/**
 * How the CLI is run; who runs it says what its token is given as.
 *
 * @throws {CliNotFoundError}
 */
export function cliSettings(
  { path, token, timeoutSeconds }: CliChoice,
  environment: NodeJS.ProcessEnv,
): Omit<CliSettings, "tokenKind"> {
  return {
    binary: findCli(path, environment["PATH"] ?? ""),
    token,
    environment: pick(environment, INHERITED),
    timeoutSeconds,
  };
}

export function pick(environment: NodeJS.ProcessEnv, names: readonly string[]): Record<string, string> {
  return Object.fromEntries(names.flatMap((name) => {
    const value = environment[name];
    return value === undefined ? [] : [[name, value]];
  }));
}
