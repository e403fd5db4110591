import { setTimeout as pause } from "node:timers/promises";
import { type DeployRequest, type DeployResult, PlatformError } from "../platform.ts";
import type { Deployment } from "./answers.ts";
import type { Begun, DeployContext } from "./deploy-context.ts";
import { isAlive, runningReplicas, standingOf, waitsForPerson } from "./deployment-status.ts";
import { NOTHING_BEFORE } from "./desired-service.ts";
import { type EnsuredService, ensureService } from "./ensure-service.ts";
import { findServicesOf } from "./find-services.ts";
import { explainFailure } from "./read-logs.ts";
import { endDeployment } from "./stop-service.ts";
import { findBegun, uploadRevision } from "./upload-revision.ts";

/** Brings a revision to a Railway service, and knows at the end that it runs there and nothing else does. */
export async function deployRevision(
  request: DeployRequest,
  context: DeployContext,
  signal: AbortSignal,
): Promise<DeployResult> {
  const service = await ensureService(request, context, signal);
  await request.remember({ serviceId: service.id });
  const found = findBegun(request, service, context.settings);
  if (found !== undefined) {
    context.report(`goes on with Railway deployment ${found.id}, which an earlier attempt began`);
  }
  const begun = found ?? await uploadRevision(request, service, context, signal);
  await rememberOrUndo(begun, service.id, request, context);
  try {
    await untilRunning(begun, context, signal);
    await untilServing(begun, request, context, signal);
    await settle(begun, service, context, signal);
    if (isFirst(begun, service)) await removeDoubles(service, request, context, signal);
    await request.remember({ deploymentId: begun.id });
    return { serviceId: service.id, deploymentId: begun.id };
  } finally {
    context.poller.forget(begun.id);
  }
}

/** What we cannot be sure of is not written down before Temporal has shown it. */
async function rememberOrUndo(
  begun: Begun,
  serviceId: string,
  request: DeployRequest,
  { api, report }: DeployContext,
): Promise<void> {
  try {
    await request.remember(begun.isCertain ? { deploymentId: begun.id } : {});
    report(`Railway deployment ${begun.id} begins`);
  } catch (error) {
    // The lease is lost. Whoever has the same row adopts this deployment; under a newer revision it must not come to run.
    const signal = AbortSignal.timeout(UNDO_MS);
    const service = await api.service(serviceId, signal).catch(() => undefined);
    const isReplaced = service !== undefined && service.variables["OSP_DEPLOYMENT"] !== request.deploymentId;
    if (begun.isCertain && isReplaced) await api.cancelDeployment(begun.id, signal).catch(() => {});
    throw error;
  }
}

const UNDO_MS = 30_000;

/** @throws {PlatformError} when it fails, ends or is late */
async function untilRunning({ id }: Begun, context: DeployContext, signal: AbortSignal): Promise<void> {
  const { poller, settings, report } = context;
  const deadline = performance.now() + settings.deployTimeoutSeconds * 1000;
  let told: string | undefined;
  for (;;) {
    const deployment = await poller.next(id, signal);
    if (deployment === undefined) throw replacedError(id, "gone");
    if (deployment.status !== told) report(`Railway deployment ${id} is ${deployment.status}`);
    told = deployment.status;
    const standing = standingOf(deployment);
    if (standing === "running") return;
    if (standing === "ended") throw replacedError(id, deployment.status);
    if (standing === "failed") throw await explain(deployment, context, signal);
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

/** @throws {PlatformError} when Temporal does not show it */
async function untilServing(
  { id, isCertain }: Begun,
  request: DeployRequest,
  context: DeployContext,
  signal: AbortSignal,
): Promise<void> {
  try {
    await request.untilServing(signal);
  } catch (error) {
    signal.throwIfAborted();
    const deployment = (await context.api.deployments([id], signal)).get(id);
    if (deployment !== undefined && standingOf(deployment) === "failed") {
      throw await explain(deployment, context, signal);
    }
    const isWrong = !isCertain && error instanceof PlatformError && error.class === "transient";
    // It was taken for ours and runs something else: the next attempt must not meet it again.
    if (isWrong && deployment !== undefined) await endDeployment(deployment, context.api, signal);
    throw error;
  }
}

/** It stays up for a while, and nothing else of the service goes on: not what a paused deployer may have begun. */
async function settle(
  { id }: Begun,
  service: EnsuredService,
  context: DeployContext,
  signal: AbortSignal,
): Promise<void> {
  const { api, settings, report } = context;
  await pause(settings.settleSeconds * 1000, undefined, { signal });
  const deployments = await api.deploymentsOf(service.id, signal);
  const deployment = deployments.find((candidate) => candidate.id === id);
  if (deployment === undefined) throw replacedError(id, "gone");
  const standing = standingOf(deployment);
  if (standing === "failed") throw await explain(deployment, context, signal);
  if (standing !== "running") throw replacedError(id, deployment.status);
  const up = runningReplicas(deployment);
  if (up < settings.replicas) {
    const states = deployment.instances.map(({ status }) => status).join(", ") || "none";
    const message = `Only ${up} of ${settings.replicas} replicas of Railway deployment ${id} stay up: ${states}`;
    throw new PlatformError("transient", "replicas_down", message);
  }
  for (const other of deployments.filter((candidate) => candidate.id !== id && isAlive(candidate))) {
    report(`Railway deployment ${other.id} (${other.status}) is not this revision's: it is ended`);
    await endDeployment(other, api, signal);
  }
}

/** Nothing of this service ever ran before: another deployer may have made a service of the same schema at the same time. */
function isFirst({ id }: Begun, { found }: EnsuredService): boolean {
  const latest = found?.serviceInstance.latestDeployment;
  return !latest || (latest.id === id && found?.variables["OSP_PREVIOUS_DEPLOYMENT"] === NOTHING_BEFORE);
}

/** A killed deployer and its successor may both have made one: the one that serves stays. */
async function removeDoubles(
  service: EnsuredService,
  { serviceSchema }: DeployRequest,
  { api, settings, report }: DeployContext,
  signal: AbortSignal,
): Promise<void> {
  const { own } = await findServicesOf(serviceSchema, service.id, { api, instance: settings.instance }, signal);
  for (const double of own.filter(({ serviceId }) => serviceId !== service.id)) {
    report(`Railway service ${double.serviceId} is a double of ${service.id}: it is removed`);
    await api.deleteService(double.serviceId, signal);
  }
}

function explain(
  deployment: Deployment,
  { api, settings }: DeployContext,
  signal: AbortSignal,
): Promise<PlatformError> {
  return explainFailure(deployment, api, settings.healthcheckSeconds, signal);
}
