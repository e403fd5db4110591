import { packDirectory } from "./archive.ts";
import { type Options, type ParsedArguments, readArguments } from "./arguments.ts";
import { isCi } from "./background.ts";
import { authorization, type Environment } from "./credentials.ts";
import { Failure, failureJson, NotInStubError } from "./failure.ts";
import { type Client, createClient, NetworkError, type Response } from "./http.ts";
import type { Invocation } from "./invocation.ts";
import { askProject, type Project, readTarget, type Target } from "./target.ts";

const options: Options = {
  "detach": { type: "boolean", short: "d", alias: "no-wait" },
  "yes": { type: "boolean", short: "y" },
  "ci": { type: "boolean", short: "c" },
  "service": { type: "string", short: "s", value: "SERVICE" },
  "environment": { type: "string", short: "e", value: "ENVIRONMENT" },
  "project": { type: "string", short: "p", value: "PROJECT_ID" },
  "workspace": { type: "string", short: "w", value: "WORKSPACE" },
  "new": { type: "boolean" },
  "name": { type: "string", value: "NAME" },
  "no-gitignore": { type: "boolean" },
  "path-as-root": { type: "boolean" },
  "verbose": { type: "boolean" },
  "json": { type: "boolean" },
  "message": { type: "string", short: "m", value: "MESSAGE" },
};

/** `railway up DIRECTORY --path-as-root --detach --json`, which tells of failures on stdout. */
export async function runUp(args: string[], invocation: Invocation): Promise<number> {
  const given = readArguments(args, options);
  const missing = ["detach", "json"].filter((name) => !given.flag(name));
  if (missing.length > 0) throw new NotInStubError(`up without --${missing.join(" and --")}`);
  const unknown = ["yes", "ci", "workspace", "new", "name", "verbose"].filter((name) => given.flag(name));
  if (unknown.length > 0) throw new NotInStubError(`up --${unknown.join(" or --")}`);
  try {
    invocation.stdout(`${JSON.stringify(await upload(given, invocation))}\n`);
    return 0;
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    invocation.stdout(`${failureJson(error)}\n`);
    return 1;
  }
}

async function upload(
  given: ParsedArguments,
  invocation: Invocation,
): Promise<{ deploymentId: string; logsUrl: string }> {
  const { environment, version } = invocation;
  const headers = authorization(environment);
  if (headers === undefined) {
    const hint = "Run `railway login` to authenticate, then re-run.";
    throw new Failure("Not signed in.", { code: "NOT_AUTHENTICATED", hint });
  }
  const session = { client: createClient(version, environment), headers, environment };
  const target = await readTarget(given, session);
  if (!given.flag("path-as-root")) throw new NotInStubError("up without --path-as-root");
  if (given.positional === undefined) throw new Failure("--path-as-root requires a path to be specified");
  const project = await askProject(target.projectId, session);
  const environmentId = environmentIn(project, target);
  const serviceId = serviceIn(project, target);
  const archive = await packDirectory(given.positional);
  const message = given.text("message");
  const query = new URLSearchParams({ serviceId, ...(message !== undefined && { message }) }).toString();
  const path = `/project/${target.projectId}/environment/${environmentId}/up?${query}`;
  const sent = { ...headers, "content-type": "application/gzip", ...callerHeader(environment) };
  const answer = await send(session.client, path, sent, archive);
  return accepted(answer, archive.length);
}

/** Unless told who calls, the CLI takes a process without a terminal for an AI agent's. */
function callerHeader(environment: Environment): Record<string, string> {
  if (environment["RAILWAY_CALLER"]?.startsWith("ci:") || isCi(environment)) return {};
  return { "x-railway-caller": "agent_unknown:node:stub" };
}

function environmentIn(project: Project, { environment }: Target): string {
  if (environment === undefined) {
    throw new Failure(
      "No environment specified. Set RAILWAY_ENVIRONMENT_ID, use --environment, or run `railway environment` to link one.",
    );
  }
  const found = project.environments.find(({ id, name }) => id === environment || name === environment);
  if (found === undefined) {
    const message =
      `Environment "${environment}" not found.\nRun \`railway environment\` to connect to an environment.`;
    throw new Failure(message, { code: "ENVIRONMENT_NOT_FOUND" });
  }
  if (found.canAccess) return found.id;
  const mend = "Ask a workspace admin for access, or choose an unrestricted environment.";
  throw new Failure(`Environment "${found.name}" is restricted. ${mend}`, { code: "ENVIRONMENT_RESTRICTED" });
}

function serviceIn({ services }: Project, { service, linkedService }: Target): string {
  if (service !== undefined) {
    const found = services.find(({ id, name }) => id === service || name === service);
    if (found === undefined) throw new Failure("Service not found");
    return found.id;
  }
  if (linkedService !== undefined) return linkedService;
  if (services.length === 0) return "";
  throw new Failure("Multiple services found. Please specify a service via the `--service` flag.");
}

async function send(client: Client, path: string, headers: Record<string, string>, body: Buffer): Promise<Response> {
  try {
    return await client.post(path, headers, body);
  } catch (error) {
    if (error instanceof NetworkError) throw new Failure(error.message, { causes: error.causes });
    throw error;
  }
}

function accepted({ status, statusText, body }: Response, bytes: number): { deploymentId: string; logsUrl: string } {
  if (status === 413) {
    throw new Failure(`Failed to upload code. File too large (${bytes} bytes): ${body}`, { code: "UPLOAD_FAILED" });
  }
  if (status !== 200 && status !== 400) {
    throw new Failure(`Failed to upload code with status code ${statusText}`, { code: "UPLOAD_FAILED" });
  }
  const answer = fieldsOf(body);
  if (status === 400) throw new Failure(answer["message"] ?? "", { code: "UPLOAD_FAILED" });
  const { deploymentId, logsUrl } = answer;
  if (deploymentId === undefined || logsUrl === undefined) {
    throw unreadable(`missing field \`deploymentId\` at line 1 column ${body.length}`);
  }
  return { deploymentId, logsUrl: logsUrl.replace(/&+$/, "") };
}

function fieldsOf(body: string): Record<string, string> {
  try {
    return { ...Object(JSON.parse(body)) };
  } catch {
    throw unreadable("expected value at line 1 column 1");
  }
}

function unreadable(why: string): Failure {
  return new Failure("error decoding response body", { causes: [why] });
}
