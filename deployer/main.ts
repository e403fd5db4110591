import { setTimeout as pause } from "node:timers/promises";
import pg from "pg";
import { type Logger, pino } from "pino";
import { formatError } from "../supabase/functions/_shared/problems.ts";
import { type DeployerConfig, parseConfig, parseStoppingConfig } from "./config.ts";
import { runDeployer } from "./deployer.ts";
import { createDoorbell } from "./doorbell.ts";
import { type ChosenPlatform, createPlatform } from "./platforms/create-platform.ts";
import type { LocalPlatform } from "./platforms/local/local-platform.ts";
import { stopAllWorkers } from "./platforms/local/stop-all.ts";
import { workersDirectory } from "./platforms/local/worker-record.ts";
import { graceMs } from "./platforms/local/workers.ts";
import { CliNotFoundError } from "./platforms/railway/cli-binary.ts";
import { PreflightError } from "./platforms/railway/preflight.ts";
import { createPlatformRegistry, type PlatformRegistry } from "./platform-registry.ts";
import { reconcilePlatform } from "./platform-reconcile.ts";
import { platformReadiness } from "./readiness/readiness.ts";
import { createTemporalReadiness } from "./readiness/temporal-readiness.ts";
import { createRegistry, type Registry } from "./registry.ts";
import { supervise, type Supervision } from "./supervision.ts";
import { StartError } from "./start-error.ts";
import { createScratch, removeLeftScratch, type Scratch } from "./scratch.ts";
import { createWake, listen, type Wake } from "./wake.ts";

/** sysexits.h: the configuration is wrong, restarting does not help. */
const EX_CONFIG = 78;

/** A listing of Railway costs requests of a budget, that of our own processes nothing. */
const RECONCILE_SECONDS = { railway: 600, local: 10 };

async function main(arguments_: string[]): Promise<number> {
  if (arguments_.includes("--stop-workers")) {
    const { OSP_STATE_DIR, OSP_DRAIN_SECONDS } = parseStoppingConfig(process.env);
    await stopAllWorkers(workersDirectory(OSP_STATE_DIR), graceMs(OSP_DRAIN_SECONDS));
    return 0;
  }
  const config = parseConfig(process.env);
  const log = pino({ base: { deployer: config.owner }, timestamp: pino.stdTimeFunctions.isoTime });
  const pool = new pg.Pool({
    connectionString: config.DATABASE_URL,
    max: 5,
    connectionTimeoutMillis: 5000,
    // A connection that died unnoticed, or a locked row, must not outlast the lease.
    query_timeout: config.OSP_LEASE_SECONDS * 1000,
    maxLifetimeSeconds: 3600,
  });
  pool.on("error", () => {}); // an idle connection was cut; the next query tells what follows from it
  const registry = createRegistry(pool, {
    owner: config.owner,
    platform: config.OSP_PLATFORM,
    leaseSeconds: config.OSP_LEASE_SECONDS,
    // One that does not come back must leave time for another.
    renewTimeoutMs: (config.OSP_LEASE_SECONDS - config.OSP_RENEW_SECONDS) * 500,
    onUnreadable: ({ service_schema, problem }, outcome) =>
      log.error({ event: "claim.unreadable", service_schema, problem, outcome }),
  });
  const stop = untilToldToStop(log);
  const scratch = createScratch();
  try {
    const instance = await instanceOf(registry, log, stop);
    const chosen = createPlatform(config, instance, { pool, environment: process.env, scratch, log });
    const platformRegistry = createPlatformRegistry(pool, config.OSP_PLATFORM);
    await run(config, registry, platformRegistry, chosen, scratch, log, stop);
  } finally {
    await scratch.close().catch(() => {});
    await pool.end();
  }
  log.info({ event: "deployer.stopped" });
  return 0;
}

async function run(
  config: DeployerConfig,
  registry: Registry,
  platformRegistry: PlatformRegistry,
  chosen: ChosenPlatform,
  scratch: Scratch,
  log: Logger,
  stop: AbortSignal,
): Promise<void> {
  const { platform } = chosen;
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
  const orRefuse = (work = Promise.resolve()) =>
    work.catch((error: unknown) => {
      refusal = error instanceof Error ? error : new Error(formatError(error));
      stopOrRefused.abort();
    });
  const compared = () => comparePlatform(config, platformRegistry, chosen, supervision, log, stopOrRefused.signal);
  const prepared = chosen.kind === "local" ? undefined : chosen.platform.prepare(stopOrRefused.signal);
  const besides = [
    orRefuse(supervision?.ended),
    // Beside: what waits for the Edge Function is rung for, whatever keeps Railway from us.
    orRefuse(prepared),
    (prepared ?? Promise.resolve()).then(compared, () => {}),
    chosen.kind === "railway" ? chosen.platform.watch(beside.signal) : Promise.resolve(supervision?.watched),
    listen(config.DATABASE_URL, wake.wake, stopOrRefused.signal),
  ];
  stopOrRefused.signal.addEventListener("abort", wake.wake, { once: true });

  await removeLeftScratch();
  log.info({ event: "deployer.started", platform: platform.name, rings: doorbell !== undefined });
  await runDeployer({
    registry,
    platform,
    readiness,
    rules: rulesOf(config),
    scratch,
    wake,
    doorbell,
    supervision,
    isPlatformOpen: chosen.kind === "local" ? () => true : chosen.platform.isOpen,
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
  const supervision = supervise({
    connectionString: config.DATABASE_URL,
    platform: platform.name,
    owner: config.owner,
    leaseSeconds: config.OSP_LEASE_SECONDS,
    renewSeconds: config.OSP_RENEW_SECONDS,
    adopt: platform.adopt,
    onHeld: wake.wake,
    log,
  }, signal);
  return { ...supervision, watched: platform.supervise(supervision, signal) };
}

function comparePlatform(
  config: DeployerConfig,
  registry: PlatformRegistry,
  chosen: ChosenPlatform,
  supervision: Supervision | undefined,
  log: Logger,
  signal: AbortSignal,
): Promise<void> {
  return reconcilePlatform({
    platform: chosen.platform,
    registry,
    supervision,
    everySeconds: config.OSP_PLATFORM_RECONCILE_SECONDS ?? RECONCILE_SECONDS[chosen.kind],
    ...(chosen.kind === "local" ? { endLeftovers: chosen.platform.endLeftovers } : {}),
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
  process.exitCode = error instanceof StartError ? EX_CONFIG : 1;
}
