import { advance, deploy, end, type Launch, moveTo } from "./lifecycle.ts";
import { removeService } from "./removal.ts";
import {
  addEnvironment,
  addService,
  type Deployment,
  type DeploymentStatus,
  type Environment,
  findInstance,
  latestDeployment,
  type Service,
  type ServiceInstance,
  type Token,
  type World,
} from "./world.ts";

/** What people do in Railway's dashboard, behind the CLI's back; and the machines that decide a deployment's fate. */
export interface Operator {
  addEnvironment(name: string, forkOf?: Environment): Environment;
  createService(name: string, variables?: Record<string, string>): Service;
  removeService(serviceId: string): void;
  /** A service's part in `production`. @param service id or name */
  instance(service: string): ServiceInstance;
  /** A new deployment of what the latest one had, as the button "Redeploy" makes it. */
  redeploy(service: string): Deployment;
  remove(deploymentId: string): void;
  /** Its plan ends with it. */
  moveTo(deploymentId: string, status: DeploymentStatus): void;
  /** One step along its plan. */
  advance(deploymentId: string): void;
  seal(service: string, variable: string): void;
  /** From now on nobody knows the token; the returned function lets it be known again. */
  revoke(token: string): () => void;
}

export function createOperator(world: World, production: Environment, launch: Launch): Operator {
  const deploymentOf = (id: string): Deployment => world.deployments.get(id) ?? missing("deployment", id);
  const serviceOf = (named: string): Service =>
    world.services.get(named) ?? [...world.services.values()].find(({ name }) => name === named) ??
      missing("service", named);
  const instance = (service: string): ServiceInstance =>
    findInstance(world, serviceOf(service).id, production.id) ?? missing("service in production", service);
  const { projectId } = production;
  return {
    instance,
    addEnvironment: (name, forkOf) => addEnvironment(world, projectId, name, forkOf?.id ?? null),
    createService: (name, variables = {}) =>
      addService(world, { projectId, environmentId: production.id, name, variables }),
    removeService: (id) => removeService(world, serviceOf(id), production.id),
    redeploy(service) {
      const { files = [] } = latestDeployment(instance(service)) ?? {};
      return deploy(world, instance(service), { files, message: null }, launch);
    },
    remove: (id) => end(world, deploymentOf(id)),
    moveTo(id, status) {
      const deployment = deploymentOf(id);
      deployment.plan = [];
      moveTo(world, deployment, status);
    },
    advance: (id) => advance(world, deploymentOf(id)),
    seal(service, variable) {
      const found = instance(service).variables.get(variable) ?? missing("variable", variable);
      found.sealed = true;
    },
    revoke(text) {
      const token: Token = world.tokens.get(text) ?? missing("token", "given");
      world.tokens.delete(text);
      return () => void world.tokens.set(text, token);
    },
  };
}

function missing(what: string, which: string): never {
  throw new Error(`The stand-in has no ${what} ${which}`);
}
