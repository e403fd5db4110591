import type { Logger } from "pino";
import type { Pool } from "pg";
import { formatError } from "../supabase/functions/_shared/problems.ts";
import type { DeployerConfig } from "./config.ts";
import type { ChosenPlatform } from "./platforms/create-platform.ts";
import type { LocalPlatform } from "./platforms/local/local-platform.ts";
import { createPlatformRegistry } from "./platform-registry.ts";
import { reconcilePlatform } from "./platform-reconcile.ts";
import { pollersOf } from "./readiness/pollers.ts";
import type { TemporalService } from "./readiness/temporal-service.ts";
import { listLivingWorkers } from "./readiness/worker-heartbeats.ts";
import { supervise, type Supervision } from "./supervision.ts";
import { listen, type Wake } from "./wake.ts";
import { watchWorkerHealth } from "./worker-health.ts";

export interface BesideDeps {
  config: DeployerConfig;
  pool: Pool;
  chosen: ChosenPlatform;
  /** Undefined: nobody is asked whether workers serve. */
  temporal: TemporalService | undefined;
  wake: Wake;
  log: Logger;
}

/** What a deployer does beside its deployments. */
export interface Beside {
  /** Undefined on platforms that any number of deployers may work on at once. */
  supervision: Supervision | undefined;
  /** Aborts when the deployer is told to stop, or must not run. */
  stop: AbortSignal;
  /** Ends it; to be called when nothing is in hand any more. @throws why the deployer must not run */
  end(): Promise<void>;
}

/** A listing of Railway costs requests of a budget, that of our own processes nothing. */
const RECONCILE_SECONDS = { railway: 600, local: 10 };

export function startBeside(deps: BesideDeps, stop: AbortSignal): Beside {
  const { config, chosen, wake } = deps;
  // Outlives `stop`: what is in hand at the end is still supervised.
  const ending = new AbortController();
  const stopOrRefused = new AbortController();
  stop.addEventListener("abort", () => stopOrRefused.abort(), { once: true });
  stopOrRefused.signal.addEventListener("abort", wake.wake, { once: true });
  let refusal: Error | undefined;
  const orRefuse = (work = Promise.resolve()) =>
    work.catch((error: unknown) => {
      refusal = error instanceof Error ? error : new Error(formatError(error));
      stopOrRefused.abort();
    });

  const supervision = chosen.kind === "local" ? superviseLocal(chosen.platform, deps, ending.signal) : undefined;
  const prepared = chosen.kind === "railway" ? chosen.platform.prepare(stopOrRefused.signal) : Promise.resolve();
  const works = [
    orRefuse(supervision?.ended),
    // What waits for the Edge Function is rung for, whatever keeps Railway from us.
    orRefuse(prepared),
    prepared.then(async () => {
      const compared = comparePlatform(deps, supervision, stopOrRefused.signal);
      if (chosen.kind === "railway") await chosen.platform.watch(ending.signal);
      await compared;
    }, () => {}),
    Promise.resolve(supervision?.watched),
    watchHealth(deps, stopOrRefused.signal),
    listen(config.DATABASE_URL, wake.wake, stopOrRefused.signal),
  ];
  return {
    supervision,
    stop: stopOrRefused.signal,
    async end() {
      ending.abort();
      await Promise.all(works);
      if (refusal !== undefined) throw refusal;
    },
  };
}

function superviseLocal(platform: LocalPlatform, { config, wake, log }: BesideDeps, signal: AbortSignal) {
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
  { config, pool, chosen, log }: BesideDeps,
  supervision: Supervision | undefined,
  signal: AbortSignal,
): Promise<void> {
  return reconcilePlatform({
    platform: chosen.platform,
    registry: createPlatformRegistry(pool, config.OSP_PLATFORM),
    supervision,
    everySeconds: config.OSP_PLATFORM_RECONCILE_SECONDS ?? RECONCILE_SECONDS[chosen.kind],
    ...(chosen.kind === "local" ? { endLeftovers: chosen.platform.endLeftovers } : {}),
    log,
  }, signal);
}

async function watchHealth({ config, pool, temporal, log }: BesideDeps, signal: AbortSignal): Promise<void> {
  if (temporal === undefined) return;
  await watchWorkerHealth({
    pool,
    platform: config.OSP_PLATFORM,
    everySeconds: config.OSP_HEALTH_SECONDS,
    listLivingWorkers: (asking) => listLivingWorkers(temporal, asking),
    pollersOf: (taskQueue) => pollersOf(temporal, taskQueue, "workflow"),
    log,
  }, signal);
}
