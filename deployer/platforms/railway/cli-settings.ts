import type { Scratch } from "../../scratch.ts";
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
  /** Calls at once. */
  concurrency: number;
  scratch: Scratch;
}

/**
 * How the CLI is run; who runs it says what its token is given as.
 *
 * @throws {CliNotFoundError}
 */
export function cliSettings(
  { path, ...choice }: CliChoice,
  environment: NodeJS.ProcessEnv,
): Omit<CliSettings, "tokenKind"> {
  return {
    ...choice,
    binary: findCli(path, environment["PATH"] ?? ""),
    environment: pick(environment, INHERITED),
  };
}

export function pick(environment: NodeJS.ProcessEnv, names: readonly string[]): Record<string, string> {
  return Object.fromEntries(names.flatMap((name) => {
    const value = environment[name];
    return value === undefined ? [] : [[name, value]];
  }));
}
