import type { Logger } from "pino";
import type { Manifest } from "../supabase/functions/_shared/manifest.ts";
import { formatError } from "../supabase/functions/_shared/problems.ts";
import { type Claim, wantsStop } from "./claim.ts";
import { type AbortCause, failureOf, type RetryRules, settleFailure, type Settlement } from "./outcome.ts";
import {
  type Idle,
  type Lease,
  type Platform,
  PlatformError,
  type PlatformIds,
  type StopRequest,
} from "./platforms/platform.ts";
import type { Readiness } from "./readiness/readiness.ts";
import type { Registry } from "./registry.ts";
import type { ScratchDirectory } from "./scratch.ts";
import { stageUpload, type StagingDeps } from "./staging.ts";
import { verifyManifest } from "./verify-manifest.ts";

export interface AttemptDeps {
  registry: Registry;
  platform: Platform;
  readiness: Readiness;
  staging: StagingDeps;
  /** Makes the directory that a platform uploads; left out: on disk. */
  stage?: typeof stageUpload;
  rules: RetryRules;
  /** What only waits is said to wait by it. */
  idle: Idle;
  log: Logger;
}

const HANDED_BACK = {
  shutdown: "the deployer was told to stop",
  supervision_lost: "another deployer supervises the workers",
};

/** More would mean that the row takes its deployers down. */
const MOST_ABANDONED = 10;

/**
 * One claim from taken to settled. `signal` ends it early; its reason is an `AbortCause`.
 * Never throws: what cannot be written now is claimed again when the lease has run out.
 */
export async function attempt(claim: Claim, deps: AttemptDeps, signal: AbortSignal): Promise<void> {
  const { service_schema, revision } = claim;
  const log = deps.log.child({ service_schema, revision, attempt: claim.attempt });
  const startedAt = performance.now();
  log.info({ event: wantsStop(claim) ? "deployment.stopping" : "deployment.started", source: claim.source });
  const settlement = await tryIt(claim, deps, signal).catch((error: unknown) =>
    settleError(error, claim, deps, signal)
  );
  if (settlement === undefined) {
    log.warn({ event: "lease.lost" });
    return;
  }
  try {
    const isWritten = await deps.registry.settle(claim, settlement);
    const facts = {
      ...("failure" in settlement ? settlement.failure : {}),
      durationMs: Math.round(performance.now() - startedAt),
    };
    if (isWritten) log.info({ event: `deployment.${settlement.outcome}`, ...facts });
    else log.warn({ event: "lease.lost", outcome: settlement.outcome });
  } catch (error) {
    log.error({ event: "settle.failed", outcome: settlement.outcome, error: formatError(error) });
  }
}

async function tryIt(claim: Claim, deps: AttemptDeps, signal: AbortSignal): Promise<Settlement> {
  signal.throwIfAborted();
  if (claim.is_superseded) return { outcome: "superseded" };
  // A stop is tried for as long as it takes: what was deleted must not go on running.
  if (claim.abandoned > MOST_ABANDONED && !wantsStop(claim)) {
    throw new PlatformError(
      "permanent",
      "abandoned_too_often",
      `${claim.abandoned} deployers went away while they had this deployment: look at their logs, then select osp.redeploy('${claim.service_schema}')`,
    );
  }
  return wantsStop(claim) ? await stop(claim, deps, signal) : await deploy(claim, deps, signal);
}

async function stop(claim: Claim, deps: AttemptDeps, signal: AbortSignal): Promise<Settlement> {
  const { platform } = deps;
  const request: StopRequest = {
    serviceSchema: claim.service_schema,
    id: claim.known_service_id ?? claim.service_schema,
    lease: leaseOf(claim, deps),
    idle: deps.idle,
  };
  const isDeleted = claim.source === "delete";
  await record(claim, deps, "stopping", `${isDeleted ? "removing" : "stopping"} its worker on ${platform.name}`);
  signal.throwIfAborted();
  await (isDeleted ? platform.remove(request, signal) : platform.stop(request, signal));
  return { outcome: "stopped" };
}

async function deploy(claim: Claim, deps: AttemptDeps, signal: AbortSignal): Promise<Settlement> {
  const { registry, platform, readiness, idle } = deps;
  const manifest = await verifyManifest(claim);
  const lines = createLines(claim, registry, signal);
  const upload = await stage(claim, manifest, deps, lines, signal);
  try {
    await record(claim, deps, "deploying", `attempt ${claim.attempt}: deploying on ${platform.name}`);
    let workerVersion: string | undefined;
    const request = {
      serviceSchema: claim.service_schema,
      revision: claim.revision,
      deploymentId: claim.id,
      manifest,
      directory: upload.path,
      known: {
        serviceId: claim.known_service_id ?? undefined,
        deploymentId: claim.known_deployment_id ?? undefined,
        rejectedDeploymentIds: claim.rejected_deployment_ids,
        mayBeDouble: !claim.has_served || claim.source === "reconcile",
      },
      lease: leaseOf(claim, deps),
      idle,
      remember: (ids: PlatformIds) => remember(claim, ids, deps),
      untilTemporalAnswers: (asking: AbortSignal) => untilTemporalAnswers(readiness, asking),
      async untilServing(serving: AbortSignal) {
        await lines.told();
        workerVersion = await untilServing(claim, manifest, deps, serving);
      },
    };
    const report = (line: string) => lines.tell("deploying", line);
    signal.throwIfAborted();
    const deployed = await platform.deploy(request, report, signal);
    return {
      outcome: "deployed",
      workerVersion,
      serviceId: deployed.serviceId,
      platformDeploymentId: deployed.deploymentId,
    };
  } finally {
    await upload.remove();
    // Whatever ends it: the settlement must not overtake a line, which would then be nobody's.
    await lines.told();
  }
}

/** The future code root. Whatever a revision must pass before the platform is touched is passed here. */
async function stage(
  claim: Claim,
  manifest: Manifest,
  deps: AttemptDeps,
  lines: Lines,
  signal: AbortSignal,
): Promise<ScratchDirectory> {
  const { staging, stage: make = stageUpload } = deps;
  const { code } = manifest.options;
  if (code !== undefined) {
    await record(claim, deps, "staging", `attempt ${claim.attempt}: fetching and checking its code ${code}`);
  }
  // The first revision finds no workflow that another one began.
  const isGated = code !== undefined || (claim.revision > 1 && await hadOwnCode(claim, deps));
  const report = (line: string) => lines.tell("staging", line);
  try {
    return await make({ manifestPath: claim.manifest_path, manifest, isGated }, staging, report, signal);
  } finally {
    await lines.told();
  }
}

/** Lines for people, written one after the other; that one gets lost is no reason to end the deployment. */
interface Lines {
  tell(step: string, line: string): void;
  /** Resolves when all that were told are written, or cannot be. */
  told(): Promise<void>;
}

function createLines(claim: Claim, registry: Registry, signal: AbortSignal): Lines {
  let told = Promise.resolve();
  const write = async (step: string, line: string) => {
    // Nobody may write it any more; its row may be locked, and each line would wait for that.
    if (signal.reason === "lease_lost") return;
    await registry.report(claim, step, line).catch(() => {});
  };
  return {
    tell(step, line) {
      told = told.then(() => write(step, line));
    },
    told: () => told,
  };
}

/** @throws {PlatformError} unavailable */
async function untilTemporalAnswers(readiness: Readiness, signal: AbortSignal): Promise<void> {
  const reason = await readiness.whatIsAway(signal);
  if (reason !== undefined) throw new PlatformError("unavailable", "temporal_unreachable", reason);
}

/** The version of the worker that Temporal shows. @throws {PlatformError} when there is none in time */
async function untilServing(
  claim: Claim,
  manifest: Manifest,
  deps: AttemptDeps,
  signal: AbortSignal,
): Promise<string | undefined> {
  const { service_schema: serviceSchema, revision } = claim;
  await record(
    claim,
    deps,
    "readiness",
    "its worker runs; waiting for Temporal to see it polling, and for a probe workflow that it runs",
  );
  const result = await deps.readiness.wait({ serviceSchema, revision, manifest }, signal);
  if (result.ready) return result.workerVersion;
  throw new PlatformError(
    result.isUnavailable ? "unavailable" : "transient",
    "not_polling",
    `The worker does not serve its task queues: ${result.reason}`,
  );
}

/**
 * Writes down how far the attempt has come, and is on the disk of the database when this resolves: the claim with it, which a
 * crash of the database may have lost until then. To be awaited before anything that changes the platform.
 *
 * @throws {PlatformError} when the lease is lost, or the database cannot be reached, which is not the deployment's fault
 */
async function record(claim: Claim, { registry }: AttemptDeps, step: string, line: string): Promise<void> {
  const isHeld = await registry.report(claim, step, line).catch(unanswered);
  if (!isHeld) throw leaseLost();
}

async function hadOwnCode(claim: Claim, { registry }: AttemptDeps): Promise<boolean> {
  return await registry.hadOwnCode(claim).catch(unanswered);
}

function unanswered(error: unknown): never {
  const message = `The database does not answer: ${formatError(error)}`;
  throw new PlatformError("unavailable", "database_unreachable", message, {}, { cause: error });
}

function leaseOf(claim: Claim, deps: AttemptDeps): Lease {
  return {
    confirm: () => remember(claim, {}, deps),
    isOpen: () => deps.registry.isOpen(claim),
  };
}

/** @throws {PlatformError} when the lease is lost: then the settlement writes nothing, whatever it says */
async function remember(claim: Claim, ids: PlatformIds, { registry }: AttemptDeps): Promise<void> {
  const isHeld = await registry.remember(claim, ids).catch(unanswered);
  if (!isHeld) throw leaseLost();
}

function leaseLost(): PlatformError {
  return new PlatformError("transient", "lease_lost", "Another deployer has this deployment by now");
}

/** Undefined: the lease is lost, so whoever has it now settles. */
function settleError(
  error: unknown,
  claim: Claim,
  { rules }: AttemptDeps,
  signal: AbortSignal,
): Settlement | undefined {
  if (signal.aborted) {
    const cause: AbortCause = signal.reason;
    if (cause === "lease_lost") return undefined;
    return cause === "superseded" ? { outcome: cause } : { outcome: "handed_back", reason: HANDED_BACK[cause] };
  }
  return settleFailure(failureOf(error), { ...claim, mayFail: !wantsStop(claim) }, rules, Math.random());
}
