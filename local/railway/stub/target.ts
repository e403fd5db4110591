import type { ParsedArguments } from "./arguments.ts";
import { type Environment, refusedToken } from "./credentials.ts";
import { Failure } from "./failure.ts";
import { type Client, NetworkError, type Response } from "./http.ts";

/** What a command works on. */
export interface Target {
  projectId: string;
  environment: string | undefined;
  /** As `--service` names it. */
  service: string | undefined;
  /** From the surroundings, taken when `--service` is not given. */
  linkedService: string | undefined;
}

export interface Session {
  client: Client;
  headers: Record<string, string>;
  environment: Environment;
}

/**
 * The flags; without `--project` a project token's own project, else RAILWAY_PROJECT_ID and its companions, which Railway
 * gives every container.
 */
export async function readTarget(given: ParsedArguments, session: Session): Promise<Target> {
  const [project, environment, service] = [given.text("project"), given.text("environment"), given.text("service")];
  if (project !== undefined) {
    if (environment === undefined) throw new Failure("--environment is required when using --project");
    return { projectId: project, environment, service, linkedService: undefined };
  }
  const linked = await readLink(session);
  return { ...linked, environment: environment ?? linked.environment, service };
}

async function readLink(session: Session): Promise<Target> {
  const { RAILWAY_TOKEN, RAILWAY_PROJECT_ID, RAILWAY_ENVIRONMENT_ID, RAILWAY_SERVICE_ID } = session.environment;
  if (RAILWAY_TOKEN !== undefined) {
    // The CLI asks twice: once whether there is a link, once for it.
    await askProjectToken(session);
    const { project, environment } = await askProjectToken(session);
    return { projectId: project.id, environment: environment.id, service: undefined, linkedService: undefined };
  }
  if (RAILWAY_PROJECT_ID !== undefined) {
    return {
      projectId: RAILWAY_PROJECT_ID,
      environment: RAILWAY_ENVIRONMENT_ID,
      service: undefined,
      linkedService: RAILWAY_SERVICE_ID,
    };
  }
  if (RAILWAY_ENVIRONMENT_ID !== undefined) {
    throw new Failure("RAILWAY_ENVIRONMENT_ID cannot be set without RAILWAY_PROJECT_ID.");
  }
  throw new Failure("No linked project found. Run railway link to connect to a project", {
    code: "NO_LINKED_PROJECT",
    hint: "Run `railway link` to connect to a project.",
  });
}

interface ProjectTokenAnswer {
  projectToken: { project: { id: string }; environment: { id: string } };
}

async function askProjectToken(session: Session): Promise<ProjectTokenAnswer["projectToken"]> {
  const query = "query ProjectToken { projectToken { project { id } environment { id } } }";
  return (await ask<ProjectTokenAnswer>("ProjectToken", query, {}, session)).projectToken;
}

export interface Project {
  environments: { id: string; name: string; canAccess: boolean }[];
  services: { id: string; name: string }[];
}

interface ProjectAnswer {
  project: {
    environments: { edges: { node: Project["environments"][number] }[] };
    services: { edges: { node: Project["services"][number] }[] };
  };
}

export async function askProject(id: string, session: Session): Promise<Project> {
  const query = `query Project($id: String!) {
    project(id: $id) {
      environments { edges { node { id name canAccess } } }
      services { edges { node { id name } } }
    }
  }`;
  const { project } = await ask<ProjectAnswer>("Project", query, { id }, session);
  const nodes = <Node>({ edges }: { edges: { node: Node }[] }) => edges.map(({ node }) => node);
  return { environments: nodes(project.environments), services: nodes(project.services) };
}

/** One GraphQL request of a command other than `api`. */
async function ask<Answer>(operationName: string, query: string, variables: object, session: Session): Promise<Answer> {
  const headers = { ...session.headers, "content-type": "application/json" };
  let response: Response;
  try {
    response = await session.client.post("/graphql/v2", headers, JSON.stringify({ query, variables, operationName }));
  } catch (error) {
    if (!(error instanceof NetworkError)) throw error;
    throw fetchFailure(error.message, [error.message, ...error.causes]);
  }
  if (response.status === 429) throw rateLimited(response.retryAfterSeconds);
  const { data, errors }: { data?: Answer; errors?: { message: string }[] } = parse(response.body);
  if (errors?.[0] !== undefined) throw refusal(errors[0].message, session.environment);
  if (data) return data;
  throw new Failure("Failed to get data from GraphQL response", { code: "MISSING_RESPONSE_DATA" });
}

function parse(body: string): object {
  try {
    return Object(JSON.parse(body));
  } catch {
    const why = "error decoding response body";
    throw fetchFailure(why, [why, "expected value at line 1 column 1"]);
  }
}

function refusal(message: string, environment: Environment): Failure {
  if (message.includes("Project not found")) {
    return new Failure("Project not found. Run `railway link` to connect to a project.", {
      code: "PROJECT_NOT_FOUND",
      hint: "Run `railway link` to connect to a project.",
    });
  }
  return refusedToken(message, environment) ?? new Failure(message, { code: "GRAPHQL_ERROR" });
}

function rateLimited(seconds: number | undefined): Failure {
  const again = seconds === undefined
    ? "Please try again later"
    : seconds > 90
    ? `Try again in about ${Math.ceil(seconds / 60)} minutes`
    : `Try again in ${seconds} seconds`;
  return new Failure(`You are being ratelimited. ${again}`, { code: "RATELIMITED" });
}

function fetchFailure(message: string, causes: string[]): Failure {
  return new Failure(`Failed to fetch: ${message}`, { code: "FETCH_ERROR", causes });
}
