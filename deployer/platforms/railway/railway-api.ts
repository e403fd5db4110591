import type { Deployment, LogLine, Service, ServiceInstance, Surroundings } from "./answers.ts";
import type { CallDeps, Fence } from "./railway-call.ts";
import type { RailwayError } from "./errors.ts";
import { createChanges } from "./railway-changes.ts";
import type { RailwayCli } from "./railway-cli.ts";
import { createQueries } from "./railway-queries.ts";

/** Where all our services are. */
export interface Place {
  project: string;
  environment: string;
}

export type Variables = Record<string, string>;

export interface ApiDeps extends CallDeps {
  /** The same program with the token in the place of a project token. */
  projectTokenCli: RailwayCli;
  /** Awaited before each change, when nothing else can hold it up any more. */
  fence: Fence;
}

/** What Railway says of each deployment that was asked for: one that it does not know is in neither. */
export interface DeploymentAnswers {
  found: Map<string, Deployment>;
  failed: Map<string, RailwayError>;
}

/** What we ask Railway. All throw RailwayError, and PlatformError when the budget is used up. */
export interface RailwayQueries {
  /** What lies around the environment; refused to a token that is not valid. */
  lookAround(signal?: AbortSignal): Promise<Surroundings>;
  /** The project of the token, taken for a project token. */
  projectOfToken(signal?: AbortSignal): Promise<string>;
  /** Every service of the environment, ours or not, each with what runs of it. */
  services(signal?: AbortSignal): Promise<ServiceInstance[]>;
  /** Undefined: there is no such service. */
  service(id: string, signal?: AbortSignal): Promise<Service | undefined>;
  variablesOf(ids: string[], signal?: AbortSignal): Promise<Map<string, Record<string, string | null>>>;
  deployments(ids: string[], signal?: AbortSignal): Promise<DeploymentAnswers>;
  /** The newest of one service, newest first. */
  deploymentsOf(serviceId: string, signal?: AbortSignal): Promise<Deployment[]>;
  logs(deploymentId: string, signal?: AbortSignal): Promise<{ build: LogLine[]; run: LogLine[] }>;
}

/** What we have Railway do. What is to be ended and is gone already is success. Throws as the queries do. */
export interface RailwayChanges {
  createService(name: string, variables: Variables, signal?: AbortSignal): Promise<string>;
  /** Sets exactly these, without deploying. */
  setVariables(serviceId: string, variables: Variables, signal?: AbortSignal): Promise<void>;
  setSettings(serviceId: string, settings: Record<string, unknown>, signal?: AbortSignal): Promise<void>;
  /** Uploads a directory; the id of the deployment that it begins. */
  upload(serviceId: string, directory: string, message: string, signal?: AbortSignal): Promise<string>;
  removeDeployment(id: string, signal?: AbortSignal): Promise<void>;
  /** Of a build in progress. */
  cancelDeployment(id: string, signal?: AbortSignal): Promise<void>;
  deleteService(id: string, signal?: AbortSignal): Promise<void>;
}

export interface RailwayApi extends RailwayQueries, RailwayChanges {}

export function createRailwayApi(place: Place, deps: ApiDeps): RailwayApi {
  return { ...createQueries(place, deps), ...createChanges(place, deps) };
}
