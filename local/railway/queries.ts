import { GraphQLError } from "graphql";
import {
  type Context,
  deploymentFor,
  environmentFor,
  instanceFor,
  notAuthorized,
  projectFor,
  refuseProjectToken,
} from "./context.ts";
import {
  connection,
  deploymentView,
  environmentView,
  instanceView,
  logView,
  projectView,
  serviceView,
} from "./views.ts";
import { type DeploymentStatus, findInstance } from "./world.ts";

const MOST_LOG_LINES = 5000;

interface LogArguments {
  deploymentId: string;
  limit?: number;
  filter?: string | null;
}

interface InstanceArguments {
  projectId: string;
  environmentId: string;
  serviceId: string;
}

export const queries = {
  apiToken(_: object, context: Context) {
    refuseProjectToken(context);
    const { kind, workspaceId } = context.token;
    return {
      workspaces: [...context.world.workspaces.values()].filter(({ id }) => kind === "account" || id === workspaceId),
    };
  },

  me(_: object, { world }: Context) {
    return { id: "user", name: "Somebody", workspaces: [...world.workspaces.values()] };
  },

  projectToken(_: object, context: Context) {
    const { projectId, environmentId } = context.token;
    if (projectId === null || environmentId === null) throw notAuthorized();
    const project = projectView(projectFor(context, projectId), context);
    const environment = environmentView(environmentFor(context, environmentId), context);
    return { id: "project-token", name: "Project token", projectId, environmentId, project, environment };
  },

  project: ({ id }: { id: string }, context: Context) => projectView(projectFor(context, id), context),

  environment: ({ id, projectId }: { id: string; projectId?: string | null }, context: Context) =>
    environmentView(environmentFor(context, id, projectId), context),

  service({ id }: { id: string }, context: Context) {
    const service = context.world.services.get(id);
    if (service === undefined) throw new GraphQLError("Service not found");
    projectFor(context, service.projectId);
    return serviceView(service);
  },

  serviceInstance: ({ serviceId, environmentId }: InstanceArguments, context: Context) =>
    instanceView(instanceFor(context, serviceId, environmentId), context),

  deployment: ({ id }: { id: string }, context: Context) => deploymentView(deploymentFor(context, id), context),

  deployments(
    { input, ...page }: { input: DeploymentListInput; first?: number | null; after?: string | null },
    context: Context,
  ) {
    if (!input.environmentId || !input.serviceId) {
      context.violation("deployments without environmentId or serviceId, which the stand-in does not answer");
      throw new GraphQLError("Problem processing request");
    }
    environmentFor(context, input.environmentId, input.projectId);
    const found = findInstance(context.world, input.serviceId, input.environmentId)?.deployments ?? [];
    const { in: wanted, notIn: unwanted } = input.status ?? {};
    const listed = found
      .filter(({ status }) => (wanted?.includes(status) ?? true) && !unwanted?.includes(status))
      .reverse();
    return connection(listed.map((each) => deploymentView(each, context)), page);
  },

  buildLogs: ({ deploymentId, ...rest }: LogArguments, context: Context) =>
    logView(deploymentFor(context, deploymentId).buildLog, limitOf(rest, context)),

  deploymentLogs: ({ deploymentId, ...rest }: LogArguments, context: Context) =>
    logView(deploymentFor(context, deploymentId).deploymentLog, limitOf(rest, context)),

  /** Build logs of one snapshot, the way that `railway logs --build` asks for them. */
  environmentLogs(
    { environmentId, filter, beforeLimit }: { environmentId: string; filter?: string; beforeLimit?: number },
    context: Context,
  ) {
    environmentFor(context, environmentId);
    const snapshotId = /@snapshot:([\w-]+)/.exec(filter ?? "")?.[1];
    const deployment = [...context.world.deployments.values()].find((each) => each.snapshotId === snapshotId);
    if (deployment === undefined) {
      context.violation(`environmentLogs with filter ${JSON.stringify(filter)}, which names no snapshot`);
      return [];
    }
    return logView(deployment.buildLog, beforeLimit ?? MOST_LOG_LINES);
  },

  regions({ projectId }: { projectId?: string | null }, context: Context) {
    if (projectId) projectFor(context, projectId);
    return ["us-west2", "europe-west4-drams3a"].map((name) => ({
      name,
      region: name,
      country: name.startsWith("us") ? "US" : "NL",
      location: name.startsWith("us") ? "US West" : "EU West",
      workspaceId: null,
      deploymentConstraints: null,
    }));
  },

  /** Without the sealed ones: their values leave Railway towards a container only. */
  variables({ projectId, environmentId, serviceId }: Partial<InstanceArguments>, context: Context) {
    if (!projectId || !environmentId || !serviceId) {
      context.violation("variables without a service, which the stand-in does not answer");
      throw new GraphQLError("Problem processing request");
    }
    return variablesOf({ projectId, environmentId, serviceId }, context, false);
  },

  variablesForServiceDeployment: (given: InstanceArguments, context: Context) => variablesOf(given, context, true),
};

interface DeploymentListInput {
  projectId?: string | null;
  environmentId?: string | null;
  serviceId?: string | null;
  status?: { in?: DeploymentStatus[]; notIn?: DeploymentStatus[] } | null;
}

function limitOf({ limit, filter }: Omit<LogArguments, "deploymentId">, context: Context): number {
  if (filter) context.violation(`a log filter, which the stand-in does not apply: ${filter}`);
  return Math.min(limit ?? 100, MOST_LOG_LINES);
}

/** With the variables that Railway adds. A sealed one is null where it is listed. */
function variablesOf(
  { projectId, environmentId, serviceId }: InstanceArguments,
  context: Context,
  listsSealed: boolean,
): Record<string, string | null> {
  const project = projectFor(context, projectId);
  const environment = environmentFor(context, environmentId, projectId);
  const own = [...instanceFor(context, serviceId, environmentId).variables].filter(([, { sealed }]) =>
    listsSealed || !sealed
  );
  return {
    ...Object.fromEntries(own.map(([key, { value, sealed }]) => [key, sealed ? null : value])),
    RAILWAY_PROJECT_ID: project.id,
    RAILWAY_PROJECT_NAME: project.name,
    RAILWAY_ENVIRONMENT_ID: environment.id,
    RAILWAY_ENVIRONMENT_NAME: environment.name,
    RAILWAY_SERVICE_ID: serviceId,
    RAILWAY_SERVICE_NAME: context.world.services.get(serviceId)?.name ?? null,
  };
}
