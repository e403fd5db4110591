import { setTimeout as pause } from "node:timers/promises";
import { type Logger, pino } from "pino";
import { formatError } from "../supabase/functions/_shared/problems.ts";
import { type DeployerConfig, parseConfig, parseStoppingConfig } from "./config.ts";
import { runDeployer } from "./deployer.ts";
import { createDoorbell } from "./doorbell.ts";
import { openPool } from "./open-pool.ts";
import { type ChosenPlatform, createPlatform } from "./platforms/create-platform.ts";
import type { LocalPlatform } from "./platforms/local/local-platform.ts";
import { stopAllWorkers } from "./platforms/local/stop-all.ts";
import { workersDirectory } from "./platforms/local/worker-record.ts";
import { graceMs } from "./platforms/local/workers.ts";
import { CliNotFoundError } from "./platforms/railway/cli-binary.ts";
import { PreflightError } from "./platforms/railway/preflight.ts";
import { platformReadiness } from "./readiness/readiness.ts";
import { createTemporalReadiness } from "./readiness/temporal-readiness.ts";
import { createRegistry, type Registry } from "./registry.ts";
import { supervise, SupervisionRefusedError } from "./supervision.ts";
import { removeLeftUploads } from "./staging.ts";
import { createWake, listen, type Wake } from "./wake.ts";

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
  const registry = createRegistry(pool, {
    owner: config.owner,
    platform: config.OSP_PLATFORM,
    leaseSeconds: config.OSP_LEASE_SECONDS,
    // One that does not come back must leave time for another.
    renewTimeoutMs: (config.OSP_LEASE_SECONDS - config.OSP_RENEW_SECONDS) * 500,
  });
  const stop = untilToldToStop(log);
  try {
    const instance = await instanceOf(registry, log, stop);
    const chosen = createPlatform(config, instance, pool, process.env, log);
    await run(config, registry, chosen, log, stop);
  } finally {
    await pool.end();
  }
  log.info({ event: "deployer.stopped" });
  return 0;
}

async function run(
  config: DeployerConfig,
  registry: Registry,
  chosen: ChosenPlatform,
  log: Logger,
  stop: AbortSignal,
): Promise<void> {
  const { platform } = chosen;
  if (chosen.kind === "railway") await chosen.platform.prepare(stop);
  const wake = createWake();
  const readiness = config.OSP_READINESS === "temporal"
    ? createTemporalReadiness(config.temporal, config.OSP_READINESS_TIMEOUT_SECONDS * 1000)
    : platformReadiness;
  const doorbell = config.FUNCTIONS_URL !== undefined && config.OSP_WEBHOOK_SECRET !== undefined
    ? createDoorbell(config.FUNCTIONS_URL, config.OSP_WEBHOOK_SECRET)
    : undefined;
  // Outlives `stop`: what is in hand at the end is still supervised.
  const beside = new AbortController();
  const stopOrRefused = new AbortController();
  stop.addEventListener("abort", () => stopOrRefused.abort(), { once: true });
  const supervision = chosen.kind === "local"
    ? superviseLocal(chosen.platform, config, wake, log, beside.signal)
    : undefined;
  let refusal: Error | undefined;
  const supervised = Promise.resolve(supervision?.ended).catch((error: unknown) => {
    refusal = error instanceof Error ? error : new Error(formatError(error));
    stopOrRefused.abort();
  });
  const besides = [
    supervised,
    chosen.kind === "local"
      ? chosen.platform.supervise(() => supervision?.isHeld() ?? false, beside.signal)
      : chosen.platform.watch(beside.signal),
    listen(config.DATABASE_URL, wake.wake, stopOrRefused.signal),
  ];
  stopOrRefused.signal.addEventListener("abort", wake.wake, { once: true });

  await removeLeftUploads();
  log.info({ event: "deployer.started", platform: platform.name, rings: doorbell !== undefined });
  await runDeployer({
    registry,
    platform,
    readiness,
    rules: rulesOf(config),
    wake,
    doorbell,
    supervision,
    settings: settingsOf(config),
    log,
  }, stopOrRefused.signal);
  beside.abort();
  await Promise.all(besides);
  await readiness.close();
  if (refusal !== undefined) throw refusal;
}

function superviseLocal(
  platform: LocalPlatform,
  config: DeployerConfig,
  wake: Wake,
  log: Logger,
  signal: AbortSignal,
) {
  return supervise({
    connectionString: config.DATABASE_URL,
    platform: platform.name,
    owner: config.owner,
    onGained: async () => {
      await platform.adopt();
      wake.wake();
    },
    log,
  }, signal);
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

function settingsOf(config: DeployerConfig) {
  return {
    concurrency: config.OSP_CONCURRENCY,
    pollSeconds: config.OSP_POLL_SECONDS,
    leaseSeconds: config.OSP_LEASE_SECONDS,
    renewSeconds: config.OSP_RENEW_SECONDS,
    sweepSeconds: config.OSP_SWEEP_SECONDS,
    reconcileSeconds: config.OSP_RECONCILE_SECONDS,
    shutdownSeconds: config.OSP_SHUTDOWN_SECONDS,
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
  process.exitCode = isOfRailway || error instanceof SupervisionRefusedError ||
      (error instanceof Error && error.message.startsWith("Cannot start"))
    ? EX_CONFIG
    : 1;
}
