import { randomUUID } from "node:crypto";
import type { UploadedFile } from "./upload.ts";

export interface Workspace {
  id: string;
  name: string;
}

export interface Project {
  id: string;
  name: string;
  workspaceId: string;
  createdAt: Date;
}

export interface Environment {
  id: string;
  name: string;
  projectId: string;
  /** The environment that it was forked from; what is done to a service elsewhere leaves a fork alone. */
  forkOf: string | null;
  createdAt: Date;
}

export interface Service {
  id: string;
  name: string;
  projectId: string;
  createdAt: Date;
}

export interface Variable {
  value: string;
  /** A sealed value reaches the container and nobody else. */
  sealed: boolean;
}

/** A service in one environment. */
export interface ServiceInstance {
  id: string;
  serviceId: string;
  environmentId: string;
  createdAt: Date;
  /** By the names of ServiceInstanceUpdateInput. */
  settings: Record<string, unknown>;
  variables: Map<string, Variable>;
  /** Oldest first. */
  deployments: Deployment[];
}

export type DeploymentStatus =
  | "QUEUED"
  | "INITIALIZING"
  | "BUILDING"
  | "DEPLOYING"
  | "WAITING"
  | "NEEDS_APPROVAL"
  | "SUCCESS"
  | "SLEEPING"
  | "FAILED"
  | "CRASHED"
  | "SKIPPED"
  | "REMOVING"
  | "REMOVED";

export type ReplicaStatus = "CREATED" | "RUNNING" | "RESTARTING" | "CRASHED" | "EXITED" | "REMOVING" | "REMOVED";

export interface LogLine {
  timestamp: Date;
  message: string;
  attributes: Record<string, string>;
}

export interface Deployment {
  id: string;
  projectId: string;
  environmentId: string;
  serviceId: string;
  snapshotId: string;
  status: DeploymentStatus;
  createdAt: Date;
  statusUpdatedAt: Date;
  /** What comes next, one step for each look at the status (or `advance`). */
  plan: DeploymentStatus[];
  replicas: { id: string; status: ReplicaStatus }[];
  /** What `up --message` said. Not in `meta`: where Railway shows it is not known. */
  message: string | null;
  files: UploadedFile[];
  /** As they were when it was made; the container knows no others. */
  variables: Record<string, string>;
  settings: Record<string, unknown>;
  buildLog: LogLine[];
  deploymentLog: LogLine[];
  /** Aborted when it is to end: removed, superseded, its service deleted; with the reason `replaced` by one that is up. */
  ending: AbortController;
}

export type TokenKind = "account" | "workspace" | "project";

export interface Token {
  kind: TokenKind;
  workspaceId: string;
  /** Of a project token. */
  projectId: string | null;
  environmentId: string | null;
}

/** Everything that the stand-in remembers. */
export interface World {
  workspaces: Map<string, Workspace>;
  projects: Map<string, Project>;
  environments: Map<string, Environment>;
  services: Map<string, Service>;
  instances: ServiceInstance[];
  deployments: Map<string, Deployment>;
  /** By the token's text. */
  tokens: Map<string, Token>;
}

export function createWorld(): World {
  return {
    workspaces: new Map(),
    projects: new Map(),
    environments: new Map(),
    services: new Map(),
    instances: [],
    deployments: new Map(),
    tokens: new Map(),
  };
}

export function addWorkspace(world: World, name: string): Workspace {
  const workspace = { id: randomUUID(), name };
  world.workspaces.set(workspace.id, workspace);
  return workspace;
}

export function addProject(world: World, workspaceId: string, name: string): Project {
  const project = { id: randomUUID(), name, workspaceId, createdAt: new Date() };
  world.projects.set(project.id, project);
  return project;
}

export function addEnvironment(world: World, projectId: string, name: string, forkOf: string | null): Environment {
  const environment = { id: randomUUID(), name, projectId, forkOf, createdAt: new Date() };
  world.environments.set(environment.id, environment);
  return environment;
}

export function addToken(world: World, token: Token): string {
  const text = randomUUID();
  world.tokens.set(text, token);
  return text;
}

/** A fork alone when the environment is one, else all that are not forks; so says Railway's schema. */
export function environmentsAffectedBy(world: World, projectId: string, environmentId: string | null): Environment[] {
  const named = environmentId === null ? undefined : world.environments.get(environmentId);
  if (named?.forkOf) return [named];
  return [...world.environments.values()].filter((each) => each.projectId === projectId && each.forkOf === null);
}

export function addService(
  world: World,
  { projectId, environmentId, name, variables }: {
    projectId: string;
    environmentId: string | null;
    name: string;
    variables: Record<string, string>;
  },
): Service {
  const service = { id: randomUUID(), name, projectId, createdAt: new Date() };
  world.services.set(service.id, service);
  for (const environment of environmentsAffectedBy(world, projectId, environmentId)) {
    world.instances.push({
      id: randomUUID(),
      serviceId: service.id,
      environmentId: environment.id,
      createdAt: new Date(),
      settings: { restartPolicyType: "ON_FAILURE", restartPolicyMaxRetries: 10 },
      variables: new Map(Object.entries(variables).map(([key, value]) => [key, { value, sealed: false }])),
      deployments: [],
    });
  }
  return service;
}

export function findInstance(world: World, serviceId: string, environmentId: string): ServiceInstance | undefined {
  return world.instances.find((each) => each.serviceId === serviceId && each.environmentId === environmentId);
}

/** Plain text by name, sealed ones included: what a container gets. */
export function plainVariables(instance: ServiceInstance): Record<string, string> {
  return Object.fromEntries([...instance.variables].map(([key, { value }]) => [key, value]));
}

export function latestDeployment(instance: ServiceInstance): Deployment | undefined {
  return instance.deployments.at(-1);
}
