import type { z } from "zod";
import {
  logsSchema,
  manyDeploymentsSchema,
  manyVariablesSchema,
  projectTokenSchema,
  serviceDeploymentsSchema,
  type ServiceInstance,
  serviceSchema,
  servicesSchema,
  surroundingsSchema,
} from "./answers.ts";
import * as documents from "./documents.ts";
import { RailwayError } from "./errors.ts";
import type { ApiDeps, DeploymentAnswers, Place, RailwayQueries } from "./railway-api.ts";
import { callApi, type CallDeps, orMissing } from "./railway-call.ts";

const PAGE = 500;
/** Parts of one document; how many Railway allows is not known. */
const MOST_ALIASES = 50;
const NEWEST = 20;
const LOG_LINES = 200;

export function createQueries(place: Place, deps: ApiDeps): RailwayQueries {
  const { project, environment } = place;
  return {
    async lookAround(signal) {
      const [doing, document] = [`look at Railway project ${project}`, documents.LOOK_AROUND];
      return await callApi({ doing, document, variables: { project }, answer: surroundingsSchema, signal }, deps);
    },
    async projectOfToken(signal) {
      const [doing, document] = ["use the token as a project token", documents.PROJECT_TOKEN];
      const asProject = { ...deps, cli: deps.projectTokenCli };
      const call = { doing, document, variables: {}, answer: projectTokenSchema, signal };
      return (await callApi(call, asProject)).projectToken.projectId;
    },
    services: (signal) => askServices(place, deps, signal),
    service: (service, signal) =>
      orMissing("railway_service_missing", () => {
        const [doing, document] = [`look at Railway service ${service}`, documents.SERVICE];
        return callApi(
          { doing, document, variables: { project, environment, service }, answer: serviceSchema, signal },
          deps,
        );
      }),
    variablesOf: (ids, signal) => askVariables(ids, place, deps, signal),
    deployments: (ids, signal) => askDeployments(ids, deps, signal),
    async deploymentsOf(serviceId, signal) {
      const [doing, document] = [`list the deployments of Railway service ${serviceId}`, documents.SERVICE_DEPLOYMENTS];
      const variables = { input: { projectId: project, environmentId: environment, serviceId }, first: NEWEST };
      const { deployments } = await callApi(
        { doing, document, variables, answer: serviceDeploymentsSchema, signal },
        deps,
      );
      return deployments.edges.map(({ node }) => node)
        .toSorted((one, other) => Date.parse(other.createdAt) - Date.parse(one.createdAt));
    },
    async logs(deployment, signal) {
      const [doing, document] = [`read the logs of Railway deployment ${deployment}`, documents.LOGS];
      const variables = { deployment, limit: LOG_LINES };
      return await callApi({ doing, document, variables, answer: logsSchema, signal }, deps);
    },
  };
}

async function askServices(
  { project, environment }: Place,
  deps: CallDeps,
  signal: AbortSignal | undefined,
): Promise<ServiceInstance[]> {
  const services: ServiceInstance[] = [];
  let after: string | null = null;
  do {
    const page: z.infer<typeof servicesSchema> = await callApi({
      doing: "list the Railway services",
      document: documents.SERVICES,
      variables: { project, environment, first: PAGE, after },
      answer: servicesSchema,
      signal,
    }, deps);
    const { edges, pageInfo } = page.environment.serviceInstances;
    services.push(...edges.map(({ node }) => node));
    after = pageInfo.hasNextPage ? pageInfo.endCursor : null;
  } while (after !== null);
  return services;
}

async function askVariables(
  ids: string[],
  { project, environment }: Place,
  deps: CallDeps,
  signal: AbortSignal | undefined,
): Promise<Map<string, Record<string, string | null>>> {
  const found = new Map<string, Record<string, string | null>>();
  for (const part of chunksOf(ids)) {
    const answer = await callApi({
      doing: "look for our mark on the Railway services",
      document: documents.variablesDocument(part.length),
      variables: { project, environment, ...numbered("s", part) },
      answer: manyVariablesSchema,
      signal,
    }, deps);
    part.forEach((id, index) => found.set(id, answer[`v${index}`] ?? {}));
  }
  return found;
}

/** One that is gone, or kept from us, fails the whole document: it is asked again without that one. */
async function askDeployments(
  ids: string[],
  deps: CallDeps,
  signal: AbortSignal | undefined,
): Promise<DeploymentAnswers> {
  const answers: DeploymentAnswers = { found: new Map(), failed: new Map() };
  for (const part of chunksOf(ids)) {
    for (let left = part; left.length > 0;) {
      try {
        const answer = await callApi({
          doing: "ask Railway how the deployments go",
          document: documents.deploymentsDocument(left.length),
          variables: numbered("d", left),
          answer: manyDeploymentsSchema,
          signal,
        }, deps);
        for (const deployment of Object.values(answer)) answers.found.set(deployment.id, deployment);
        break;
      } catch (error) {
        left = withoutNamed(left, error, answers);
      }
    }
  }
  return answers;
}

/** @throws the error, where it names none of them */
function withoutNamed(ids: string[], error: unknown, { failed }: DeploymentAnswers): string[] {
  if (!(error instanceof RailwayError)) throw error;
  const isNamed = (_: string, index: number) => error.aliases.includes(`d${index}`);
  const named = ids.filter(isNamed);
  if (named.length === 0) throw error;
  if (error.code !== "railway_deployment_missing") { for (const id of named) failed.set(id, error); }
  return ids.filter((id, index) => !isNamed(id, index));
}

function chunksOf(ids: string[]): string[][] {
  const count = Math.ceil(ids.length / MOST_ALIASES);
  return Array.from({ length: count }, (_, index) => ids.slice(index * MOST_ALIASES, (index + 1) * MOST_ALIASES));
}

function numbered(prefix: string, values: string[]): Record<string, string> {
  return Object.fromEntries(values.map((value, index) => [`${prefix}${index}`, value]));
}
