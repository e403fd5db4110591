import { randomUUID } from "node:crypto";
import type { UploadedFile } from "./upload.ts";
import {
  type Deployment,
  type DeploymentStatus,
  findInstance,
  latestDeployment,
  plainVariables,
  type ReplicaStatus,
  type ServiceInstance,
  type World,
} from "./world.ts";

export type TellStatus = (status: DeploymentStatus) => void;

/** Brings one deployment to life: runs what was uploaded, and tells how that goes. Done when nothing of it runs any more. */
export type DeploymentRunner = (deployment: Deployment, tell: TellStatus) => Promise<void>;

/** How deployments come about: what a new one will go through, and who really runs it. */
export interface Launch {
  /** The steps after QUEUED of a service's next deployment. */
  planFor: (instance: ServiceInstance) => DeploymentStatus[];
  /** Left out, deployments follow their plan alone. */
  run?: DeploymentRunner | undefined;
}

const inFlight: DeploymentStatus[] = ["QUEUED", "INITIALIZING", "BUILDING", "DEPLOYING", "WAITING", "NEEDS_APPROVAL"];
const serving: DeploymentStatus[] = ["SUCCESS", "SLEEPING", "CRASHED"];

export const isInFlight = ({ status }: Deployment) => inFlight.includes(status);
export const isActive = ({ status }: Deployment) => serving.includes(status);
export const canRedeploy = (deployment: Deployment) =>
  !isInFlight(deployment) && !["REMOVING", "REMOVED", "SKIPPED"].includes(deployment.status);

/** A deployment that has just been accepted. An older one that is not up yet gives way to it. */
export function deploy(
  world: World,
  instance: ServiceInstance,
  { files, message }: { files: UploadedFile[]; message: string | null },
  launch: Launch,
): Deployment {
  for (const older of instance.deployments.filter(isInFlight)) {
    moveTo(world, older, "REMOVED");
    older.plan = [];
  }
  const deployment: Deployment = {
    id: randomUUID(),
    projectId: world.services.get(instance.serviceId)?.projectId ?? "",
    environmentId: instance.environmentId,
    serviceId: instance.serviceId,
    snapshotId: randomUUID(),
    status: "QUEUED",
    createdAt: new Date(),
    statusUpdatedAt: new Date(),
    plan: launch.run === undefined ? launch.planFor(instance) : [],
    replicas: [],
    message,
    files,
    variables: plainVariables(instance),
    settings: { ...instance.settings },
    buildLog: [],
    deploymentLog: [],
    ending: new AbortController(),
  };
  instance.deployments.push(deployment);
  world.deployments.set(deployment.id, deployment);
  void launch.run?.(deployment, (status) => moveTo(world, deployment, status)).then(
    () => afterRun(world, deployment),
    (error: unknown) => failRun(world, deployment, error),
  );
  return deployment;
}

/** The same upload with the variables and settings of now; undefined where nothing was ever uploaded. */
export function redeployLatest(world: World, instance: ServiceInstance, launch: Launch): Deployment | undefined {
  const latest = latestDeployment(instance);
  if (latest === undefined) return undefined;
  return deploy(world, instance, { files: latest.files, message: latest.message }, launch);
}

function afterRun(world: World, deployment: Deployment): void {
  if (deployment.status === "REMOVING") moveTo(world, deployment, "REMOVED");
}

function failRun(world: World, deployment: Deployment, error: unknown): void {
  log(deployment, isInFlight(deployment) ? "build" : "deployment", String(error));
  if (isInFlight(deployment)) moveTo(world, deployment, "FAILED");
  else if (deployment.status === "REMOVING") moveTo(world, deployment, "REMOVED");
  else if (deployment.status !== "REMOVED") moveTo(world, deployment, "CRASHED");
}

/** Goes one step along the deployment's plan, if there is one left. */
export function advance(world: World, deployment: Deployment): void {
  const next = deployment.plan.shift();
  if (next !== undefined) moveTo(world, deployment, next);
}

/**
 * Sets a status and what follows from it. Only a deployment that has become SUCCESS ends its predecessor: until then
 * the old one serves, and it goes on serving when the new one fails.
 */
export function moveTo(world: World, deployment: Deployment, status: DeploymentStatus): void {
  if (deployment.status === status) return;
  deployment.status = status;
  deployment.statusUpdatedAt = new Date();
  setReplicas(deployment, status);
  if (status === "SUCCESS") endPredecessors(world, deployment);
  if (["REMOVING", "REMOVED", "FAILED", "SKIPPED"].includes(status)) deployment.ending.abort();
}

function endPredecessors(world: World, deployment: Deployment): void {
  const instance = findInstance(world, deployment.serviceId, deployment.environmentId);
  for (const other of instance?.deployments ?? []) {
    if (other !== deployment && isActive(other)) end(world, other, "replaced");
  }
}

/** Asks a deployment to end; REMOVED follows when its containers have drained, for which a plan needs one more step. */
export function end(world: World, deployment: Deployment, why: "removed" | "replaced" = "removed"): void {
  if (deployment.status === "REMOVED" || deployment.status === "REMOVING") return;
  deployment.ending.abort(why);
  const hasContainers = deployment.replicas.length > 0;
  moveTo(world, deployment, hasContainers ? "REMOVING" : "REMOVED");
  deployment.plan = hasContainers ? ["REMOVED"] : [];
}

function setReplicas(deployment: Deployment, status: DeploymentStatus): void {
  const replicaStatus = replicaStatusIn(status);
  if (replicaStatus === undefined) return;
  if (deployment.replicas.length === 0 && status !== "REMOVED" && status !== "FAILED") {
    const count = Object.values(regionsOf(deployment.settings)).reduce((sum, { numReplicas }) => sum + numReplicas, 0);
    deployment.replicas = Array.from({ length: count }, () => ({ id: randomUUID(), status: replicaStatus }));
  }
  for (const replica of deployment.replicas) replica.status = replicaStatus;
}

function replicaStatusIn(status: DeploymentStatus): ReplicaStatus | undefined {
  const known: Partial<Record<DeploymentStatus, ReplicaStatus>> = {
    DEPLOYING: "CREATED",
    SUCCESS: "RUNNING",
    CRASHED: "CRASHED",
    FAILED: "REMOVED",
    REMOVING: "REMOVING",
    REMOVED: "REMOVED",
  };
  return known[status];
}

const DEFAULT_REGION = "us-west2";

/** Replicas by region; `multiRegionConfig` counts before `numReplicas`. */
export function regionsOf(settings: Record<string, unknown>): Record<string, { numReplicas: number }> {
  const regions = Object.entries(settings["multiRegionConfig"] ?? {}).filter(([, value]) => value !== null);
  if (regions.length > 0) return Object.fromEntries(regions);
  const { region, numReplicas } = settings;
  return { [typeof region === "string" ? region : DEFAULT_REGION]: { numReplicas: Number(numReplicas ?? 1) } };
}

export function log(
  deployment: Deployment,
  kind: "build" | "deployment",
  message: string,
  attributes: Record<string, string> = { level: "info" },
): void {
  const lines = kind === "build" ? deployment.buildLog : deployment.deploymentLog;
  lines.push({ timestamp: new Date(), message, attributes });
}
