import { setTimeout as pause } from "node:timers/promises";
import { type Logger, pino } from "pino";
import { formatError } from "../supabase/functions/_shared/problems.ts";
import { cacheDirectory } from "../host/cache-directory.ts";
import { type BesideDeps, startBeside } from "./beside.ts";
import { createCodeSource } from "./code/create-code-source.ts";
import { type DeployerConfig, loopSettings, parseConfig, parseStoppingConfig } from "./config.ts";
import { runDeployer } from "./deployer.ts";
import { createDoorbell } from "./doorbell.ts";
import { openPool, openRenewalPool } from "./open-pool.ts";
import { createPlatform } from "./platforms/create-platform.ts";
import { stopAllWorkers } from "./platforms/local/stop-all.ts";
import { workersDirectory } from "./platforms/local/worker-record.ts";
import { graceMs } from "./platforms/local/workers.ts";
import { CliNotFoundError } from "./platforms/railway/cli-binary.ts";
import { PreflightError } from "./platforms/railway/preflight.ts";
import { createReplayGate, openGate } from "./replay/replay-gate.ts";
import { platformReadiness } from "./readiness/readiness.ts";
import { openTemporal } from "./readiness/temporal-service.ts";
import { createTemporalReadiness } from "./readiness/temporal-readiness.ts";
import { createRegistry, type Registry } from "./registry.ts";
import { StartError } from "./start-error.ts";
import { createScratch, removeLeftScratch, type Scratch } from "./scratch.ts";
import { createWake } from "./wake.ts";

// Node would open a debugger, to whoever reaches its port: a service's own code runs on this machine, though apart from us.
process.on("SIGUSR1", () => {});

/** sysexits.h: the configuration is wrong, restarting does not help. */
const EX_CONFIG = 78;

async function main(arguments_: string[]): Promise<number> {
  if (arguments_.includes("--stop-workers")) {
    const { OSP_STATE_DIR, OSP_DRAIN_SECONDS } = parseStoppingConfig(process.env);
    await stopAllWorkers(workersDirectory(OSP_STATE_DIR), graceMs(OSP_DRAIN_SECONDS));
    return 0;
  }
  const config = parseConfig(process.env);
  const log = pino({ base: { deployer: config.owner }, timestamp: pino.stdTimeFunctions.isoTime });
  const pool = openPool(config.DATABASE_URL, config.OSP_LEASE_SECONDS);
  const renewals = openRenewalPool(config.DATABASE_URL, config.OSP_LEASE_SECONDS);
  const registry = createRegistry(pool, {
    owner: config.owner,
    platform: config.OSP_PLATFORM,
    leaseSeconds: config.OSP_LEASE_SECONDS,
    // One that does not come back must leave time for another.
    renewTimeoutMs: (config.OSP_LEASE_SECONDS - config.OSP_RENEW_SECONDS) * 500,
    onUnreadable: ({ service_schema, problem }) => log.error({ event: "claim.unreadable", service_schema, problem }),
  }, renewals);
  const stop = untilToldToStop(log);
  const temporal = config.OSP_READINESS === "temporal" ? openTemporal(config.temporal) : undefined;
  const scratch = createScratch();
  try {
    const instance = await instanceOf(registry, log, stop);
    const chosen = createPlatform(config, instance, { pool, environment: process.env, scratch, log });
    await run({ config, pool, registry, chosen, temporal, scratch, log }, stop);
  } finally {
    await temporal?.close();
    await scratch.close().catch(() => {});
    await Promise.all([pool.end(), renewals.end()]);
  }
  log.info({ event: "deployer.stopped" });
  return 0;
}

interface Running extends Omit<BesideDeps, "wake"> {
  registry: Registry;
  scratch: Scratch;
}

async function run(
  { config, chosen, temporal, registry, scratch, ...shared }: Running,
  stop: AbortSignal,
): Promise<void> {
  const { platform } = chosen;
  const { log } = shared;
  const wake = createWake();
  const doorbell = config.FUNCTIONS_URL !== undefined && config.OSP_WEBHOOK_SECRET !== undefined
    ? createDoorbell(config.FUNCTIONS_URL, config.OSP_WEBHOOK_SECRET)
    : undefined;
  const beside = startBeside({ ...shared, config, chosen, temporal, wake }, stop);
  await removeLeftScratch();
  log.info({ event: "deployer.started", platform: platform.name, rings: doorbell !== undefined });
  await runDeployer({
    registry,
    platform,
    readiness: temporal === undefined
      ? platformReadiness
      : createTemporalReadiness(temporal, config.OSP_READINESS_TIMEOUT_SECONDS * 1000),
    rules: rulesOf(config),
    staging: {
      scratch,
      code: createCodeSource(config, cacheDirectory(process.env)),
      cacheDirectory: cacheDirectory(process.env),
      gate: temporal === undefined ? openGate : createReplayGate(temporal, scratch, config.OSP_REPLAY_GATE_WORKFLOWS),
    },
    wake,
    doorbell,
    supervision: beside.supervision,
    isPlatformOpen: chosen.kind === "local" ? () => true : chosen.platform.isOpen,
    settings: loopSettings(config),
    log,
  }, beside.stop);
  await beside.end();
}

/** The marker is in the database: without it nothing can begin, so this waits for the database as long as it takes. */
async function instanceOf(registry: Registry, log: Logger, stop: AbortSignal): Promise<string> {
  for (let tries = 1;; tries++) {
    try {
      return await registry.platformInstance();
    } catch (error) {
      if (tries === 1) log.warn({ event: "registry.failing", error: formatError(error) });
      if (stop.aborted) throw new Error("Told to stop before the database could be reached", { cause: error });
      await pause(Math.min(5000, 100 * 2 ** tries), undefined, { signal: stop }).catch(() => {});
    }
  }
}

function rulesOf(config: DeployerConfig) {
  return {
    maxAttempts: config.OSP_MAX_ATTEMPTS,
    retrySeconds: config.OSP_RETRY_SECONDS,
    retryCapSeconds: config.OSP_RETRY_CAP_SECONDS,
    deferSeconds: config.OSP_DEFER_SECONDS,
    deferCapSeconds: config.OSP_DEFER_CAP_SECONDS,
  };
}

function untilToldToStop(log: Logger): AbortSignal {
  const stop = new AbortController();
  for (const name of ["SIGTERM", "SIGINT"] as const) {
    process.once(name, () => {
      log.info({ event: "deployer.stopping", signal: name });
      stop.abort();
    });
  }
  return stop.signal;
}

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  const isOfRailway = error instanceof CliNotFoundError || error instanceof PreflightError;
  console.error(`${isOfRailway ? "Cannot start the deployer on Railway: " : ""}${formatError(error)}`);
  process.exitCode = error instanceof StartError ? EX_CONFIG : 1;
}
