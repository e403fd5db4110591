import type { Pool } from "pg";
import type { Logger } from "pino";
import { cacheDirectory } from "../../host/cache-directory.ts";
import type { DeployerConfig } from "../config.ts";
import type { Scratch } from "../scratch.ts";
import { createPlatformState } from "../platform-state.ts";
import { createLocalPlatform, type LocalPlatform } from "./local/local-platform.ts";
import { workersDirectory } from "./local/worker-record.ts";
import { cliSettings, pick, PROXIES } from "./railway/cli-settings.ts";
import { createRailwayCli } from "./railway/railway-cli.ts";
import { createRailwayPlatform, type RailwayPlatform } from "./railway/railway-platform.ts";
import { createRedact, passwordsOf } from "./railway/redact.ts";

/** The platform that the configuration names. `local` has one supervisor, on `railway` any number of deployers work. */
export type ChosenPlatform = { kind: "local"; platform: LocalPlatform } | {
  kind: "railway";
  platform: RailwayPlatform;
};

/** What a platform works with besides its settings. */
export interface Site {
  pool: Pool;
  /** Of the deployer's process. */
  environment: NodeJS.ProcessEnv;
  scratch: Scratch;
  log: Logger;
}

/** @throws {StartError} when the platform cannot be used as it is set up */
export function createPlatform(
  config: DeployerConfig,
  instance: string,
  site: Site,
): ChosenPlatform {
  const { environment, log } = site;
  if (config.railway !== undefined) {
    return { kind: "railway", platform: createRailway(config, config.railway, instance, site) };
  }
  const platform = createLocalPlatform({
    directory: workersDirectory(config.OSP_STATE_DIR),
    instance,
    environment: { ...pick(environment, ["PATH", "HOME", "LANG", "TZ"]), OSP_CACHE_DIR: cacheDirectory(environment) },
    decisiveEnvironment: { ...pick(environment, ["NODE_EXTRA_CA_CERTS"]), ...config.temporal, ...config.activities },
    deployTimeoutSeconds: config.OSP_DEPLOY_TIMEOUT_SECONDS,
    drainSeconds: config.OSP_DRAIN_SECONDS,
    log,
  });
  return { kind: "local", platform };
}

function createRailway(
  config: DeployerConfig,
  railway: NonNullable<DeployerConfig["railway"]>,
  instance: string,
  { pool, environment, scratch, log }: Site,
): RailwayPlatform {
  const variables = { ...config.temporal, ...config.activities, ...railway.variables };
  const timeoutSeconds = config.OSP_RAILWAY_CALL_TIMEOUT_SECONDS;
  const { RAILWAY_CLI_PATH: path, OSP_CONCURRENCY: concurrency } = config;
  const cli = cliSettings({ path, token: railway.token, timeoutSeconds, concurrency, scratch }, environment);
  return createRailwayPlatform({
    cli: createRailwayCli({ ...cli, tokenKind: "RAILWAY_API_TOKEN" }),
    projectTokenCli: createRailwayCli({ ...cli, tokenKind: "RAILWAY_TOKEN" }),
    redact: createRedact([
      railway.token,
      ...secretsOf(variables, railway.variables),
      ...passwordsOf(pick(environment, PROXIES)),
    ]),
    scratch,
    state: createPlatformState(pool, { platform: "railway", owner: config.owner }),
    project: railway.project,
    environment: railway.environment,
    allowsOtherEnvironments: config.OSP_RAILWAY_ALLOW_ENVIRONMENTS,
    instance,
    variables,
    drainSeconds: config.OSP_DRAIN_SECONDS,
    overlapSeconds: config.OSP_RAILWAY_OVERLAP_SECONDS,
    healthcheckSeconds: config.OSP_RAILWAY_HEALTHCHECK_SECONDS,
    replicas: config.OSP_RAILWAY_REPLICAS,
    restartPolicy: config.OSP_RAILWAY_RESTART_POLICY,
    restartRetries: config.OSP_RAILWAY_RESTART_RETRIES,
    deployTimeoutSeconds: config.OSP_RAILWAY_DEPLOY_TIMEOUT_SECONDS,
    settleSeconds: config.OSP_RAILWAY_SETTLE_SECONDS,
    perHour: config.OSP_RAILWAY_REQUESTS_PER_HOUR,
    perSecond: config.OSP_RAILWAY_REQUESTS_PER_SECOND,
    pollSeconds: config.OSP_RAILWAY_POLL_SECONDS,
    pollCapSeconds: config.OSP_RAILWAY_POLL_CAP_SECONDS,
    probeSeconds: config.OSP_RAILWAY_PROBE_SECONDS,
    log,
  });
}

/** What the operator gives the workers is secret, whatever its name; of Temporal's variables, keys and certificates. */
function secretsOf(all: Record<string, string>, own: Record<string, string>): string[] {
  const named = Object.entries(all).filter(([name]) => /KEY|TOKEN|SECRET|PASSWORD|_DATA$|AUTHORIZATION/.test(name));
  return [...Object.values(own), ...named.map(([, value]) => value)];
}
