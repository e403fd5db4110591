import { GraphQLError } from "graphql";
import type { Launch } from "./lifecycle.ts";
import {
  type Deployment,
  type Environment,
  findInstance,
  type Project,
  type ServiceInstance,
  type Token,
  type World,
} from "./world.ts";

/** How the stand-in decides where Railway's own rule is not known. */
export interface Rules {
  /** Whether a second service of a name is refused; else it is made. */
  uniqueServiceNames: boolean;
  /** Services that a listing without page arguments shows at most. */
  servicesPageSize: number;
}

/** What resolvers work with, one per request. */
export interface Context {
  world: World;
  token: Token;
  rules: Rules;
  launch: Launch;
  /** Deployments whose status was asked for; each goes one step on after the answer. */
  looked: Set<Deployment>;
  /** The request is one that no well-behaved client sends. */
  violation: (text: string) => void;
}

export const notAuthorized = () => new GraphQLError("Not Authorized");

/** Operations on a project's structure are not for a project token. */
export function refuseProjectToken({ token }: Context): void {
  if (token.kind === "project") throw notAuthorized();
}

export function projectFor(context: Context, id: string): Project {
  const project = context.world.projects.get(id);
  if (project === undefined) throw new GraphQLError("Project not found");
  const { kind, workspaceId, projectId } = context.token;
  const mayUse = kind === "account" || (kind === "workspace" ? workspaceId === project.workspaceId : projectId === id);
  if (!mayUse) throw notAuthorized();
  return project;
}

/** @param projectId that of the request, where it names one */
export function environmentFor(context: Context, id: string, projectId?: string | null): Environment {
  const environment = context.world.environments.get(id);
  if (environment === undefined) throw new GraphQLError("Environment not found");
  projectFor(context, environment.projectId);
  if (projectId && projectId !== environment.projectId) throw new GraphQLError("Environment not found");
  if (context.token.kind === "project" && context.token.environmentId !== id) throw notAuthorized();
  return environment;
}

export function instanceFor(context: Context, serviceId: string, environmentId: string): ServiceInstance {
  environmentFor(context, environmentId);
  const instance = findInstance(context.world, serviceId, environmentId);
  if (instance === undefined) throw new GraphQLError("ServiceInstance not found");
  return instance;
}

export function deploymentFor(context: Context, id: string): Deployment {
  const deployment = context.world.deployments.get(id);
  if (deployment === undefined) throw new GraphQLError("Deployment not found");
  environmentFor(context, deployment.environmentId);
  return deployment;
}

/** `EnvironmentVariables` is a free scalar to a schema; Railway takes texts alone. */
export function textsOf(context: Context, variables: unknown): Record<string, string> {
  const entries = Object.entries(variables ?? {});
  const bad = entries.filter(([, value]) => typeof value !== "string").map(([key]) => key);
  if (bad.length > 0) context.violation(`variables that are no text: ${bad.join(", ")}`);
  return Object.fromEntries(entries.map(([key, value]) => [key, String(value)]));
}
