import { stripVTControlCharacters } from "node:util";
import { type ErrorClass, PlatformError } from "../platform.ts";
import type { CliResult } from "./railway-cli.ts";

/** What a failed call means. */
export interface Verdict {
  class: ErrorClass;
  code: string;
  /** Said behind what Railway said. */
  mend?: string;
  retryAfterSeconds?: number;
  /** Whether a change that was asked for may have been made all the same: look before it is asked for again. */
  isAmbiguous?: boolean;
}

interface Rule extends Omit<Verdict, "retryAfterSeconds"> {
  pattern: RegExp;
  retryAfterSeconds?: (match: RegExpExecArray) => number;
}

const MINUTE = 60;

/**
 * What the CLI and Railway's API say when something fails, first hit wins. Railway that cannot be reached, and a deployer
 * that is not set up as Railway wants it (`SITE_FAULTS`), are no deployment's fault and use up no attempt; what Railway's
 * servers refuse or break does.
 */
const rules: readonly Rule[] = [
  {
    pattern: /being ratelimited\D*(?:Try again in|in)\D*(\d+) (second|minute)/i,
    class: "throttled",
    code: "railway_throttled",
    retryAfterSeconds: (match) => Number(match[1]) * (match[2]?.startsWith("min") ? MINUTE : 1),
  },
  {
    pattern: /being ratelimited|HTTP 429|status code 429/i,
    class: "throttled",
    code: "railway_throttled",
    retryAfterSeconds: () => MINUTE,
  },
  {
    pattern: /allows \d+ .*? per (\d+) seconds/i,
    class: "throttled",
    code: "railway_throttled",
    retryAfterSeconds: (match) => Number(match[1]) + 5,
  },
  { pattern: /too quickly/i, class: "throttled", code: "railway_throttled", retryAfterSeconds: () => 35 },
  {
    pattern: /Failed to upload code with status code (408|5\d\d)/i,
    class: "transient",
    code: "upload_failed",
    isAmbiguous: true,
  },
  {
    pattern: /File too large|status code 413/i,
    class: "permanent",
    code: "upload_too_large",
    mend: "make the service's code smaller",
  },
  { pattern: /Failed to upload code with status code 40[34]/i, class: "permanent", code: "upload_refused" },
  {
    pattern: /Railway API request failed with HTTP 5\d\d/i,
    class: "unavailable",
    code: "railway_unavailable",
    isAmbiguous: true,
  },
  {
    pattern: /UnknownIssuer|invalid peer certificate|certificate/i,
    class: "unavailable",
    code: "railway_certificate",
    mend: "if a proxy stands between, name its CA by SSL_CERT_FILE",
  },
  {
    pattern:
      /Failed to fetch: error sending request|error sending request for url|operation timed out|dns error|connection (?:refused|reset|closed)|closed connection|tunnel error|unexpected end of file/i,
    class: "unavailable",
    code: "railway_unreachable",
    mend: "check the network and the proxy (HTTPS_PROXY) of the deployer",
    isAmbiguous: true,
  },
  {
    pattern: /error decoding response body/i,
    class: "transient",
    code: "railway_answer_unreadable",
    mend:
      "if it stays so, this version of the CLI and Railway's API no longer fit: install Railway CLI 5.71.0 or newer",
    isAmbiguous: true,
  },
  {
    pattern:
      /Unauthorized|Not Authorized|Invalid RAILWAY_TOKEN|Not signed in|You do not have access|Login state is corrupt|no longer valid|HTTP 40[13]|status code 401/i,
    class: "unavailable",
    code: "railway_unauthorized",
    mend: "give the deployers a RAILWAY_API_TOKEN of the project's workspace that is valid",
  },
  {
    pattern: /Railway API request failed with HTTP 4\d\d|Cannot query field/i,
    class: "unavailable",
    code: "railway_api_mismatch",
    mend: "Railway's API and this deployer no longer fit: update the deployer",
  },
  {
    pattern: /Failed to get data from GraphQL response|Internal server error|Problem processing request/i,
    class: "transient",
    code: "railway_server_error",
    isAmbiguous: true,
  },
  {
    pattern: /Two-factor authentication is required/i,
    class: "unavailable",
    code: "railway_two_factor",
    mend: "give the deployers a RAILWAY_API_TOKEN that needs none",
  },
  {
    pattern: /Environment .*is restricted/i,
    class: "unavailable",
    code: "railway_environment_restricted",
    mend: "the token's owner needs access to the environment",
  },
  {
    pattern:
      /No linked project|Project not found|Project is deleted|Environment is deleted|Environment .*not found|No environment specified|--environment is required|cannot be set without/i,
    class: "unavailable",
    code: "railway_project_missing",
    mend: "correct OSP_RAILWAY_PROJECT and OSP_RAILWAY_ENVIRONMENT",
  },
  {
    pattern:
      /Service not found|Service ['"].*not found|ServiceInstance not found|doesn't exist in the current environment|Project has no services|No services found in environment/i,
    // One just made may take a minute to show everywhere; one that is gone is made anew.
    class: "transient",
    code: "railway_service_missing",
  },
  {
    pattern: /No deployments? found|Deployment not found/i,
    class: "permanent",
    code: "railway_deployment_missing",
  },
  { pattern: /cannot be redeployed/i, class: "transient", code: "railway_busy" },
  { pattern: /already exists|must be unique/i, class: "permanent", code: "railway_name_taken" },
  {
    pattern:
      /Multiple services found|No service linked|Cannot prompt|non-interactive mode|not a TTY|Failed to prompt|Invalid variable format|Empty value provided|Unknown region|Invalid scale target|Invalid replica count/i,
    class: "permanent",
    code: "railway_call_refused",
    mend: "this is a fault of the deployer",
  },
  {
    pattern: /prefix not found|IO error for operation on|File system loop found/i,
    class: "permanent",
    code: "upload_unreadable",
    mend: "the upload's directory cannot be read by the CLI",
  },
];

/**
 * Faults of the deployer's own set-up or site, which every deployment meets alike: they stop nobody's row, they stop the
 * platform (pause.ts).
 */
export const SITE_FAULTS: ReadonlySet<string> = new Set([
  "railway_unauthorized",
  "railway_certificate",
  "railway_project_missing",
  "railway_two_factor",
  "railway_environment_restricted",
]);

/**
 * What follows from what the CLI or the API said. What nobody knows is permanent: it is said as it stands.
 *
 * @param said what the CLI said in its own words first: a page of HTML that it passes on may hold any of them
 */
export function classify(...said: string[]): Verdict {
  for (const text of said.map(stripVTControlCharacters)) {
    for (const { pattern, retryAfterSeconds, ...verdict } of rules) {
      const match = pattern.exec(text);
      if (match) return { ...verdict, ...(retryAfterSeconds && { retryAfterSeconds: retryAfterSeconds(match) }) };
    }
  }
  return { class: "permanent", code: "railway_refused" };
}

/** What follows from how a call ended that gave no readable answer. */
export function classifyResult(result: CliResult, ...said: string[]): Verdict {
  switch (result.failure) {
    case "not_started":
      // Perhaps it is being replaced just now, or the machine has no process left.
      return {
        class: "unavailable",
        code: "railway_cli_missing",
        mend: "install the Railway CLI, or correct RAILWAY_CLI_PATH",
      };
    case "timeout":
      return { class: "unavailable", code: "railway_timeout", isAmbiguous: true };
    case "killed":
    case "aborted":
      return { class: "transient", code: "railway_cli_killed", isAmbiguous: true };
    case "too_much_output":
      return { class: "permanent", code: "railway_answer_too_large", isAmbiguous: true };
    case undefined:
      return result.exitCode === 2 ? UNKNOWN_COMMAND : classify(...said);
  }
}

const UNKNOWN_COMMAND: Verdict = {
  class: "unavailable",
  code: "railway_cli_mismatch",
  mend: "the CLI does not know this command: install Railway CLI 5.71.0",
};

/** A call to Railway that failed. */
export class RailwayError extends PlatformError {
  readonly verdict: Verdict;
  /** Whether a change that was asked for may have been made all the same. */
  readonly isAmbiguous: boolean;
  /** The parts of the document that Railway's answer names as failed. */
  readonly aliases: readonly string[];

  /** @param doing what cannot be done, as in "Cannot …" */
  constructor(
    doing: string,
    said: string,
    verdict: Verdict,
    { exitCode, aliases = [] }: { exitCode?: number | undefined; aliases?: readonly string[] } = {},
  ) {
    const { code, mend, retryAfterSeconds, isAmbiguous = false } = verdict;
    const message = `Cannot ${doing}: ${said}${mend === undefined ? "" : ` (${mend})`}`;
    super(verdict.class, code, message, { exitCode, retryAfterSeconds });
    this.verdict = verdict;
    this.isAmbiguous = isAmbiguous;
    this.aliases = aliases;
  }
}
