import type { Context } from "./context.ts";
import { canRedeploy, isActive, regionsOf } from "./lifecycle.ts";
import {
  type Deployment,
  type Environment,
  latestDeployment,
  type LogLine,
  type Project,
  type Service,
  type ServiceInstance,
} from "./world.ts";

// What the API shows of the world, by the field names of api.graphql.

interface Page {
  after?: string | null;
  first?: number | null;
}

/** A page of `items` as Relay has it; the cursor is a position. */
export function connection<Item>(items: Item[], { after, first }: Page, pageSize = Infinity) {
  const start = after ? Number(after) + 1 : 0;
  const page = items.slice(start, start + (first ?? pageSize));
  const end = start + page.length - 1;
  return {
    edges: page.map((node, index) => ({ cursor: String(start + index), node })),
    pageInfo: {
      hasNextPage: end < items.length - 1,
      hasPreviousPage: start > 0,
      startCursor: page.length === 0 ? null : String(start),
      endCursor: page.length === 0 ? null : String(end),
    },
  };
}

export function projectView(project: Project, context: Context) {
  const { world, rules } = context;
  const { id, name, workspaceId, createdAt } = project;
  return {
    id,
    name,
    workspaceId,
    createdAt,
    deletedAt: null,
    workspace: world.workspaces.get(workspaceId),
    buckets: { edges: [] },
    environments: ({ isEphemeral, ...page }: Page & { isEphemeral?: boolean | null }) =>
      connection(
        [...world.environments.values()]
          .filter((each) => each.projectId === id && (isEphemeral ?? (each.forkOf !== null)) === (each.forkOf !== null))
          .map((each) => environmentView(each, context)),
        page,
      ),
    services: (page: Page) =>
      connection(
        [...world.services.values()].filter((each) => each.projectId === id).map(serviceView),
        page,
        rules.servicesPageSize,
      ),
  };
}

export function environmentView(environment: Environment, context: Context): object {
  const { id, name, projectId, forkOf, createdAt } = environment;
  const { world, token } = context;
  return {
    id,
    name,
    projectId,
    createdAt,
    deletedAt: null,
    canAccess: token.kind !== "project" || token.environmentId === id,
    isEphemeral: forkOf !== null,
    sourceEnvironment: () => {
      const source = forkOf === null ? undefined : world.environments.get(forkOf);
      return source === undefined ? null : environmentView(source, context);
    },
    unmergedChangesCount: 0,
    serviceInstances: (page: Page) =>
      connection(
        world.instances.filter((each) => each.environmentId === id).map((each) => instanceView(each, context)),
        page,
      ),
    volumeInstances: (page: Page) => connection([], page),
  };
}

export function serviceView({ id, name, projectId, createdAt }: Service) {
  return { id, name, projectId, createdAt, deletedAt: null };
}

export function instanceView(instance: ServiceInstance, context: Context) {
  const { id, serviceId, environmentId, createdAt, settings, deployments } = instance;
  const latest = latestDeployment(instance);
  return {
    ...emptySettings,
    ...settings,
    id,
    serviceId,
    environmentId,
    createdAt,
    serviceName: context.world.services.get(serviceId)?.name,
    latestDeployment: latest === undefined ? null : deploymentView(latest, context),
    activeDeployments: deployments.filter(isActive).map((each) => deploymentView(each, context)),
    autoInstrumentationEnabled: false,
    tracingEnabled: false,
    domains: { serviceDomains: [], customDomains: [] },
    nextCronRunAt: null,
    source: null,
  };
}

const emptySettings = {
  buildCommand: null,
  cronSchedule: null,
  dockerfilePath: null,
  drainingSeconds: null,
  healthcheckPath: null,
  healthcheckTimeout: null,
  numReplicas: null,
  overlapSeconds: null,
  preDeployCommand: null,
  region: null,
  rootDirectory: null,
  sleepApplication: null,
  startCommand: null,
};

export function deploymentView(deployment: Deployment, context: Context) {
  const { id, status, replicas, settings, createdAt, statusUpdatedAt } = deployment;
  return {
    id,
    status: () => {
      context.looked.add(deployment);
      return status;
    },
    createdAt,
    updatedAt: statusUpdatedAt,
    statusUpdatedAt,
    projectId: deployment.projectId,
    environmentId: deployment.environmentId,
    serviceId: deployment.serviceId,
    snapshotId: deployment.snapshotId,
    canRedeploy: canRedeploy(deployment),
    deploymentStopped: replicas.length > 0 && replicas.every((each) => ["EXITED", "REMOVED"].includes(each.status)),
    diagnosis: null,
    instances: replicas.map((each) => ({ ...each })),
    meta: { serviceManifest: { deploy: { ...settings, multiRegionConfig: regionsOf(settings) } } },
  };
}

/** @param limit the newest so many lines */
export function logView(lines: LogLine[], limit: number) {
  return lines.slice(-limit).map(({ timestamp, message, attributes }) => ({
    timestamp: timestamp.toISOString(),
    message,
    severity: attributes["level"] ?? null,
    attributes: Object.entries(attributes).map(([key, value]) => ({ key, value: JSON.stringify(value) })),
  }));
}
