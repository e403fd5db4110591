import { z } from "zod";
import { formatError } from "../../../supabase/functions/_shared/problems.ts";
import type { Deployment, ServiceInstance } from "./answers.ts";
import { desiredSettings, type ServiceSettings } from "./desired-service.ts";
import * as documents from "./documents.ts";
import { checkRailway, type PreflightSettings } from "./preflight.ts";
import type { RailwayApi } from "./railway-api.ts";
import { callApi, type CallDeps } from "./railway-call.ts";
import type { RailwayCli } from "./railway-cli.ts";

/** What was looked at, and how it is. `open`: nothing is there yet that would tell. */
export interface Finding {
  about: string;
  verdict: "ok" | "wrong" | "open";
  said: string;
}

export interface DoctorDeps {
  cli: RailwayCli;
  api: RailwayApi;
  call: CallDeps;
  settings: PreflightSettings;
}

/** The version that the project's tests run with. */
const TESTED = "5.71.0";

/**
 * Looks whether Railway is as the deployer believes, by what a live account alone can tell. Only reads. Ends with the first
 * finding without which nothing else can be looked at.
 */
export async function* examineRailway(deps: DoctorDeps, signal: AbortSignal): AsyncGenerator<Finding> {
  const access = await examineAccess(deps, signal);
  yield* access;
  if (access.some(({ verdict }) => verdict === "wrong")) return;
  yield await judged("what the deployer changes", () => examineChanges(deps.call, signal));
  const services = await deps.api.services(signal);
  yield await judged("listing of services", () => examineListing(services, deps, signal));
  yield examineNames(services);
  const ours = await markedOf(services, deps, signal);
  yield {
    about: "services of ours",
    verdict: "ok",
    said: `${ours.length} of ${services.length} carry a marker OSP_INSTANCE${markersOf(ours)}`,
  };
  yield* examineDeployments(ours, deps, signal);
}

async function judged(about: string, examine: () => Promise<Omit<Finding, "about">>): Promise<Finding> {
  try {
    return { about, ...await examine() };
  } catch (error) {
    return { about, verdict: "wrong", said: formatError(error) };
  }
}

async function examineAccess({ cli, api, settings }: DoctorDeps, signal: AbortSignal): Promise<Finding[]> {
  const about = "CLI, token, project, environment";
  try {
    const { cliVersion } = await checkRailway(cli, api, settings, signal);
    const isTested = cliVersion === TESTED;
    return [
      { about, verdict: "ok", said: "the token is let in, and the project has the environment" },
      {
        about: "version of the CLI",
        verdict: isTested ? "ok" : "open",
        said: `${cliVersion}${isTested ? "" : `; the tests run with ${TESTED}`}`,
      },
    ];
  } catch (error) {
    return [{ about, verdict: "wrong", said: formatError(error) }];
  }
}

const namesSchema = z.array(z.object({ name: z.string() }));
const changesSchema = z.looseObject({
  mutation: z.object({ fields: z.array(z.object({ name: z.string(), args: namesSchema })) }),
});
const inputSchema = z.object({ inputFields: namesSchema });

/** Fields of inputs that we fill in. */
const inputs: Record<string, string[]> = {
  ServiceCreateInput: ["projectId", "environmentId", "name", "variables"],
  VariableCollectionUpsertInput: ["projectId", "environmentId", "serviceId", "variables", "replace", "skipDeploys"],
  ServiceInstanceUpdateInput: Object.keys(desiredSettings(anySettings())),
};

function anySettings(): ServiceSettings {
  const numbers = { drainSeconds: 0, overlapSeconds: 0, healthcheckSeconds: 1, replicas: 1, restartRetries: 0 };
  return { instance: "", variables: {}, restartPolicy: "ON_FAILURE", ...numbers };
}

/** A change cannot be tried: its form is compared with what Railway's API says of itself. */
async function examineChanges(call: CallDeps, signal: AbortSignal): Promise<Omit<Finding, "about">> {
  const names = Object.keys(inputs);
  const answer = await callApi({
    doing: "ask Railway's API what it knows",
    document: documents.changesDocument(names),
    variables: {},
    answer: changesSchema,
    signal,
  }, call);
  const unknown = documents.CHANGES.flatMap((document) => unknownIn(document, answer.mutation.fields));
  for (const [index, name] of names.entries()) {
    const known = new Set(inputSchema.parse(answer[`i${index}`]).inputFields.map((field) => field.name));
    unknown.push(...(inputs[name] ?? []).filter((field) => !known.has(field)).map((field) => `${name}.${field}`));
  }
  return unknown.length === 0
    ? { verdict: "ok", said: "Railway's API knows every change that the deployer makes" }
    : { verdict: "wrong", said: `Railway's API does not know ${unknown.join(", ")}: update the deployer` };
}

type Fields = z.infer<typeof changesSchema>["mutation"]["fields"];

function unknownIn(document: string, fields: Fields): string[] {
  const [, name = "", args = ""] = /\{\s*(\w+)\(([^)]*)\)/.exec(document) ?? [];
  const field = fields.find((candidate) => candidate.name === name);
  if (field === undefined) return [`the mutation ${name}`];
  const used = args.split(",").map((argument) => argument.split(":")[0]?.trim() ?? "");
  return used.filter((used_) => !field.args.some((argument) => argument.name === used_)).map((one) =>
    `${name}(${one})`
  );
}

const projectServicesSchema = z.object({
  project: z.object({ services: z.object({ edges: z.array(z.unknown()) }) }),
});

/** `up` finds the service among those of the project, without asking for further pages. */
async function examineListing(
  services: ServiceInstance[],
  { call, settings }: DoctorDeps,
  signal: AbortSignal,
): Promise<Omit<Finding, "about">> {
  const { project } = await callApi({
    doing: "list the project's services as the CLI does",
    document: documents.PROJECT_SERVICES,
    variables: { project: settings.project },
    answer: projectServicesSchema,
    signal,
  }, call);
  const [shown, all] = [project.services.edges.length, services.length];
  return shown >= all
    ? { verdict: "ok", said: `the CLI sees all ${all} services` }
    : { verdict: "wrong", said: `the CLI sees ${shown} of ${all} services: it will not upload to the others` };
}

function examineNames(services: ServiceInstance[]): Finding {
  const names = services.map(({ serviceName }) => serviceName);
  const twice = [...new Set(names.filter((name, index) => names.indexOf(name) !== index))];
  return {
    about: "names of services",
    verdict: twice.length === 0 ? "ok" : "wrong",
    said: twice.length === 0
      ? "each stands once"
      : `${twice.join(", ")} stand twice: the deployer takes the one with its marker, people may take the other`,
  };
}

interface Marked {
  service: ServiceInstance;
  instance: string;
}

async function markedOf(services: ServiceInstance[], { api }: DoctorDeps, signal: AbortSignal): Promise<Marked[]> {
  const variables = await api.variablesOf(services.map(({ serviceId }) => serviceId), signal);
  return services.flatMap((service) => {
    const instance = variables.get(service.serviceId)?.["OSP_INSTANCE"];
    return typeof instance === "string" ? [{ service, instance }] : [];
  });
}

function markersOf(ours: Marked[]): string {
  const markers = [...new Set(ours.map(({ instance }) => instance))];
  return markers.length === 0 ? "" : `: ${markers.join(", ")}`;
}

/** What deployments of ours tell of questions that Railway's documentation leaves open. */
async function* examineDeployments(
  ours: Marked[],
  { api }: DoctorDeps,
  signal: AbortSignal,
): AsyncGenerator<Finding> {
  const service = ours.find(({ service: { latestDeployment } }) => latestDeployment !== null)?.service;
  if (service === undefined) {
    const said = "nothing was deployed yet: ask again after the first deployment";
    yield { about: "deployments of ours", verdict: "open", said };
    return;
  }
  const deployments = await api.deploymentsOf(service.serviceId, signal);
  yield examineMessage(deployments);
  yield await judged("removed deployments", async () => {
    const removed = deployments.find(({ status }) => status === "REMOVED");
    if (removed === undefined) return { verdict: "open", said: "none was removed yet" };
    const found = (await api.deployments([removed.id], signal)).found.get(removed.id);
    return found === undefined
      ? { verdict: "open", said: "Railway forgets them; the deployer takes that for removed" }
      : { verdict: "ok", said: `can still be asked for: ${found.status}` };
  });
}

/** Where `up --message` shows is not documented. */
function examineMessage(deployments: Deployment[]): Finding {
  const about = "message of an upload";
  const [path] = deployments.flatMap(({ meta }) => pathsOf(meta, (text) => text.startsWith("osp ")));
  return path === undefined
    ? { about, verdict: "open", said: "stands nowhere in a deployment's meta" }
    : { about, verdict: "ok", said: `stands in meta${path}` };
}

/** Where in a value a text is that satisfies, such as `.commitMessage`. */
function pathsOf(value: unknown, satisfies: (text: string) => boolean): string[] {
  if (typeof value === "string") return satisfies(value) ? [""] : [];
  if (typeof value !== "object" || value === null) return [];
  return Object.entries(value).flatMap(([key, member]) => pathsOf(member, satisfies).map((path) => `.${key}${path}`));
}
