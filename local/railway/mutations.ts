import { randomUUID } from "node:crypto";
import { GraphQLError } from "graphql";
import {
  type Context,
  deploymentFor,
  environmentFor,
  instanceFor,
  projectFor,
  refuseProjectToken,
  textsOf,
} from "./context.ts";
import { canRedeploy, deploy, end, isInFlight, moveTo, redeployLatest } from "./lifecycle.ts";
import { removeService } from "./removal.ts";
import { deploymentView, serviceView } from "./views.ts";
import { addService, environmentsAffectedBy, findInstance, type ServiceInstance } from "./world.ts";

/** As Railway's documentation of services has it. */
const LONGEST_SERVICE_NAME = 32;

interface VariablesInput {
  projectId: string;
  environmentId: string;
  serviceId?: string | null;
  variables: unknown;
  replace: boolean;
  skipDeploys: boolean;
}

interface ServiceInput {
  projectId: string;
  environmentId?: string | null;
  name?: string | null;
  variables?: unknown;
  source?: { repo?: string | null; image?: string | null } | null;
}

export const mutations = {
  serviceCreate({ input }: { input: ServiceInput }, context: Context) {
    const { world } = context;
    refuseProjectToken(context);
    projectFor(context, input.projectId);
    if (input.environmentId) environmentFor(context, input.environmentId, input.projectId);
    if (input.source?.repo || input.source?.image) context.violation("a service from a repository or an image");
    const name = input.name ?? `service-${randomUUID().slice(0, 8)}`;
    refuseName(name, input.projectId, context);
    const variables = textsOf(context, input.variables);
    const environmentId = input.environmentId ?? null;
    return serviceView(addService(world, { projectId: input.projectId, environmentId, name, variables }));
  },

  serviceDelete({ id, environmentId }: { id: string; environmentId?: string | null }, context: Context): boolean {
    const { world } = context;
    refuseProjectToken(context);
    const service = world.services.get(id);
    if (service === undefined) throw new GraphQLError("Service not found");
    projectFor(context, service.projectId);
    if (environmentId) environmentFor(context, environmentId, service.projectId);
    removeService(world, service, environmentId ?? null);
    return true;
  },

  /** Takes effect with the next deployment; whether Railway starts one is not known, so none is started. */
  serviceInstanceUpdate(
    { serviceId, environmentId, input }: { serviceId: string; environmentId?: string | null; input: object },
    context: Context,
  ): boolean {
    const { world } = context;
    refuseProjectToken(context);
    const service = world.services.get(serviceId);
    if (service === undefined) throw new GraphQLError("Service not found");
    projectFor(context, service.projectId);
    if (environmentId) instanceFor(context, serviceId, environmentId);
    for (const { id } of environmentsAffectedBy(world, service.projectId, environmentId ?? null)) {
      const instance = findInstance(world, serviceId, id);
      if (instance !== undefined) Object.assign(instance.settings, input);
    }
    return true;
  },

  variableCollectionUpsert({ input }: { input: VariablesInput }, context: Context): boolean {
    const instance = instanceOf(input, context);
    const given = textsOf(context, input.variables);
    if (input.replace) instance.variables.clear();
    for (const [key, value] of Object.entries(given)) {
      instance.variables.set(key, { value, sealed: instance.variables.get(key)?.sealed ?? false });
    }
    if (!input.skipDeploys) redeployLatest(context.world, instance, context.launch);
    return true;
  },

  variableDelete(
    { input }: { input: { projectId: string; environmentId: string; serviceId?: string | null; name: string } },
    context: Context,
  ): boolean {
    const instance = instanceOf(input, context);
    instance.variables.delete(input.name);
    redeployLatest(context.world, instance, context.launch);
    return true;
  },

  deploymentRemove: ({ id }: { id: string }, context: Context) => endDeployment(id, context),
  deploymentStop: ({ id }: { id: string }, context: Context) => endDeployment(id, context),
  /** Of a build in progress; what Railway says of another one is not known. */
  deploymentCancel({ id }: { id: string }, context: Context): boolean {
    if (!isInFlight(deploymentFor(context, id))) throw new GraphQLError("Deployment is not in progress");
    return endDeployment(id, context);
  },

  deploymentRedeploy({ id }: { id: string }, context: Context) {
    const old = deploymentFor(context, id);
    if (!canRedeploy(old)) throw new GraphQLError("Deployment cannot be redeployed");
    const instance = instanceFor(context, old.serviceId, old.environmentId);
    return deploymentView(deploy(context.world, instance, old, context.launch), context);
  },

  deploymentRestart({ id }: { id: string }, context: Context): boolean {
    const deployment = deploymentFor(context, id);
    if (deployment.status === "CRASHED") moveTo(context.world, deployment, "SUCCESS");
    return true;
  },

  /** Settings and variables of services; each that changes gets a new deployment. */
  environmentPatchCommit(
    { environmentId, patch }: { environmentId: string; patch?: EnvironmentPatch },
    context: Context,
  ): string {
    refuseProjectToken(context);
    environmentFor(context, environmentId);
    for (const [serviceId, change] of Object.entries(patch?.services ?? {})) {
      const instance = findInstance(context.world, serviceId, environmentId);
      if (instance === undefined) context.violation(`a patch of ${serviceId}, which is no service's id`);
      else applyPatch(instance, change, context);
    }
    return randomUUID();
  },
};

interface EnvironmentPatch {
  services?: Record<string, ServicePatch>;
}

interface ServicePatch {
  deploy?: Record<string, unknown>;
  variables?: Record<string, { value: string } | null>;
}

function applyPatch(instance: ServiceInstance, { deploy: settings, variables }: ServicePatch, context: Context): void {
  for (const [key, variable] of Object.entries(variables ?? {})) {
    if (variable === null) instance.variables.delete(key);
    else instance.variables.set(key, { value: variable.value, sealed: false });
  }
  Object.assign(instance.settings, settings);
  redeployLatest(context.world, instance, context.launch);
}

function refuseName(name: string, projectId: string, { world, rules }: Context): void {
  if (name.length > LONGEST_SERVICE_NAME) {
    throw new GraphQLError(`Service name must be at most ${LONGEST_SERVICE_NAME} characters`);
  }
  if (!rules.uniqueServiceNames) return;
  const isTaken = [...world.services.values()].some((each) => each.projectId === projectId && each.name === name);
  if (isTaken) throw new GraphQLError(`A service named "${name}" already exists in this project`);
}

function instanceOf(
  { projectId, environmentId, serviceId }: { projectId: string; environmentId: string; serviceId?: string | null },
  context: Context,
): ServiceInstance {
  environmentFor(context, environmentId, projectId);
  if (serviceId) return instanceFor(context, serviceId, environmentId);
  context.violation("variables for all services of an environment");
  throw new GraphQLError("Problem processing request");
}

function endDeployment(id: string, context: Context): boolean {
  refuseProjectToken(context);
  end(context.world, deploymentFor(context, id));
  return true;
}
