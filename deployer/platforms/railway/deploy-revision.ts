import { setTimeout as pause } from "node:timers/promises";
import { type DeployRequest, type DeployResult, type FailureFacts, PlatformError } from "../platform.ts";
import type { Deployment } from "./answers.ts";
import type { Begun, DeployContext } from "./deploy-context.ts";
import { isAlive, runningReplicas, standingOf, waitsForPerson } from "./deployment-status.ts";
import { layoutOf, replicasIn } from "./desired-service.ts";
import { endDeployment, endDeploymentById } from "./end-deployment.ts";
import { type EnsuredService, ensureService, rememberService } from "./ensure-service.ts";
import { findServicesOf } from "./find-services.ts";
import { explainFailure } from "./read-logs.ts";
import { removeOne } from "./stop-service.ts";
import { findBegun, type Upload, uploadRevision } from "./upload-revision.ts";

/** Brings a revision to a Railway service, and knows at the end that it runs there and nothing else does. */
export async function deployRevision(
  request: DeployRequest,
  context: DeployContext,
  signal: AbortSignal,
): Promise<DeployResult & { looks: number }> {
  const service = await ensureService(request, context, signal);
  await rememberService(service, request, context);
  const found = findBegun(request, service, context.settings);
  if (found !== undefined) {
    context.report(`goes on with Railway deployment ${found.id}, which an earlier attempt began`);
  }
  const upload = found ?? await uploadRevision(request, service, context, signal);
  await rememberOrEnd(upload, request, context, signal);
  const begun: Begun = { ...upload, followed: context.poller.follow(upload.id) };
  try {
    await untilRunning(begun, request, context, signal);
    await untilServes(begun, service, request, context, signal);
    if (request.known.mayBeDouble) await removeDoubles(service, request, context, signal);
    await request.remember({ deploymentId: begun.id });
    return { serviceId: service.id, deploymentId: begun.id, looks: begun.followed.looks };
  } finally {
    begun.followed.end();
  }
}

const UNDO_MS = 10_000;

/**
 * Writes the deployment down; one that we cannot be sure of, not before Temporal has shown it.
 *
 * @throws the signal's reason, or {PlatformError} when the lease is lost. Where nobody wants the deployment any more it is
 *   ended; else whoever has the row now takes it up.
 */
async function rememberOrEnd(
  { id, isCertain }: Upload,
  request: DeployRequest,
  { unfenced, report }: DeployContext,
  signal: AbortSignal,
): Promise<void> {
  try {
    await request.remember(isCertain ? { deploymentId: id } : {});
    signal.throwIfAborted();
    report(`Railway deployment ${id} begins`);
  } catch (error) {
    const limit = AbortSignal.timeout(UNDO_MS);
    const isOpen = await request.lease.isOpen().catch(() => true);
    if (isCertain && !isOpen) await endDeploymentById(id, unfenced, limit).catch(() => {});
    throw signal.aborted ? signal.reason : error;
  }
}

/** @throws {PlatformError} when it fails, ends or is late */
async function untilRunning(
  { id, followed }: Begun,
  request: DeployRequest,
  context: DeployContext,
  signal: AbortSignal,
): Promise<void> {
  const { settings, report } = context;
  const deadline = performance.now() + settings.deployTimeoutSeconds * 1000;
  let told: string | undefined;
  for (;;) {
    const deployment = await request.idle(followed.next(signal));
    if (deployment === undefined) throw replacedError(id, "gone");
    if (deployment.status !== told) report(`Railway deployment ${id} is ${deployment.status}`);
    told = deployment.status;
    const standing = standingOf(deployment);
    if (standing === "running") return;
    if (standing === "ended") throw replacedError(id, deployment.status);
    if (standing === "failed") throw await explainFailure(deployment, request, context, signal);
    if (performance.now() > deadline) throw await giveUp(deployment, context, signal);
  }
}

function replacedError(id: string, status: string): PlatformError {
  return status === "SKIPPED"
    ? new PlatformError(
      "transient",
      "deployment_skipped",
      `Railway skipped deployment ${id}: the service has watch patterns that its upload does not touch; remove them`,
    )
    : new PlatformError(
      "transient",
      "deployment_replaced",
      `Railway deployment ${id} is ${status} before it served: somebody removed it, or deployed something else`,
    );
}

/** So that it does not come to run unseen, later. */
async function giveUp(deployment: Deployment, context: DeployContext, signal: AbortSignal): Promise<PlatformError> {
  const { id, status } = deployment;
  const { deployTimeoutSeconds } = context.settings;
  await endDeployment(deployment, context.api, signal);
  const message = `Railway deployment ${id} is still ${status} after ${deployTimeoutSeconds} s`;
  return waitsForPerson(deployment)
    ? new PlatformError(
      "permanent",
      "deployment_waits",
      `${message}: somebody must approve it in Railway, then deploy again`,
    )
    : new PlatformError("transient", "deployment_late", message);
}

/**
 * It runs, so Railway has ended what ran before: Temporal must show it, and it must stay up.
 *
 * @throws {PlatformError} saying that it has replaced the older revision
 */
async function untilServes(
  begun: Begun,
  service: EnsuredService,
  request: DeployRequest,
  context: DeployContext,
  signal: AbortSignal,
): Promise<void> {
  try {
    await untilServing(begun, request, context, signal);
    await settle(begun, service, request, context, signal);
  } catch (error) {
    signal.throwIfAborted();
    throw error instanceof PlatformError ? withFacts(error, { hasReplaced: true }) : error;
  }
}

function withFacts(error: PlatformError, facts: FailureFacts): PlatformError {
  return new PlatformError(error.class, error.code, error.message, { ...error.facts, ...facts }, {
    cause: error.cause,
  });
}

/** @throws {PlatformError} when Temporal does not show it */
async function untilServing(
  { id }: Begun,
  request: DeployRequest,
  context: DeployContext,
  signal: AbortSignal,
): Promise<void> {
  try {
    await request.idle(request.untilServing(signal));
  } catch (error) {
    signal.throwIfAborted();
    if (!(error instanceof PlatformError)) throw error;
    const { found } = await context.api.deployments([id], signal);
    const deployment = found.get(id);
    if (deployment !== undefined && standingOf(deployment) !== "running") {
      throw await explainFailure(deployment, request, context, signal);
    }
    // It is up, and may be somebody's redeployment of something else: the next upload replaces it, we do not end it.
    throw error.class === "transient" ? withFacts(error, { rejectedDeploymentId: id }) : error;
  }
}

/** It stays up for a while, and nothing else of the service goes on: not what a paused deployer may have begun. */
async function settle(
  { id }: Begun,
  service: EnsuredService,
  request: DeployRequest,
  context: DeployContext,
  signal: AbortSignal,
): Promise<void> {
  const { api, settings, report } = context;
  await request.idle(pause(settings.settleSeconds * 1000, undefined, { signal }));
  const deployments = await api.deploymentsOf(service.id, signal);
  const deployment = deployments.find((candidate) => candidate.id === id);
  if (deployment === undefined) throw replacedError(id, "gone");
  if (standingOf(deployment) === "failed") throw await explainFailure(deployment, request, context, signal);
  if (standingOf(deployment) !== "running") throw replacedError(id, deployment.status);
  const wanted = replicasIn(layoutOf(deployment)) ?? request.manifest.options.replicas ?? settings.replicas ?? 1;
  const up = runningReplicas(deployment);
  if (up < wanted) {
    const states = deployment.instances.map(({ status }) => status).join(", ") || "none";
    const message = `Only ${up} of ${wanted} replicas of Railway deployment ${id} stay up: ${states}`;
    throw new PlatformError("transient", "replicas_down", message, { rejectedDeploymentId: id });
  }
  for (const other of deployments.filter((candidate) => candidate.id !== id && isAlive(candidate))) {
    report(`Railway deployment ${other.id} (${other.status}) is not this revision's: it is ended`);
    await endDeployment(other, api, signal);
  }
}

/** A killed deployer and its successor may both have made a service: the one that serves stays. */
async function removeDoubles(
  service: EnsuredService,
  { serviceSchema, idle }: DeployRequest,
  context: DeployContext,
  signal: AbortSignal,
): Promise<void> {
  const { api, settings: { instance, drainSeconds }, report } = context;
  const { own } = await findServicesOf(serviceSchema, service.id, { api, instance }, signal);
  for (const double of own.filter(({ serviceId }) => serviceId !== service.id)) {
    report(`Railway service ${double.serviceId} is a double of ${service.id}: it is removed`);
    await removeOne(double.serviceId, idle, { ...context, instance, drainSeconds }, signal);
  }
}
