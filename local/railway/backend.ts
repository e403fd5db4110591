import type { IncomingHttpHeaders, IncomingMessage, RequestListener, ServerResponse } from "node:http";
import { HOST } from "./host.ts";
import type { Context, Rules } from "./context.ts";
import { type Answer, type Faults, TOO_LARGE, type Trouble } from "./faults.ts";
import {
  createExecutor,
  type GraphqlRequest,
  InvalidRequestError,
  type ParsedRequest,
  parseRequest,
} from "./graphql.ts";
import { authenticate, headerProblems } from "./headers.ts";
import type { Journal, RecordedRequest } from "./journal.ts";
import { advance, deploy, type Launch } from "./lifecycle.ts";
import { graphqlRequest, readBody, serviceIdsIn, type UploadTarget, uploadTarget } from "./requests.ts";
import { readUpload, UploadError } from "./upload.ts";
import { type Deployment, findInstance, type World } from "./world.ts";

export interface BackendParts {
  world: World;
  journal: Journal;
  faults: Faults;
  rules: Rules;
  launch: Launch;
  /** Larger uploads are refused with 413. */
  maxUploadBytes: number;
  /** `looks`: each answer about a deployment's status moves it one step on. */
  pace: "looks" | "manual";
  cliSchema: string | undefined;
}

/** Railway's backend: its GraphQL API and its uploads. */
export function createBackend(parts: BackendParts): RequestListener {
  const executor = createExecutor(parts.cliSchema);
  return (incoming, outgoing) => {
    void (async () => {
      const body = await readBody(incoming);
      if (body === undefined) return;
      const url = new URL(incoming.url ?? "/", `https://${HOST}`);
      const target = incoming.method === "POST" ? uploadTarget(url) : undefined;
      if (target !== undefined) await serveUpload(incoming, outgoing, body, target, parts);
      else if (url.pathname === "/graphql/v2") await serveGraphql(incoming, outgoing, body, parts, executor);
      else {
        parts.journal.violations.push(`${incoming.method} ${url.pathname}, which the stand-in does not answer`);
        send(outgoing, { status: 404, body: "Not found" });
      }
    })().catch((error: unknown) => {
      parts.journal.violations.push(`The stand-in failed: ${String(Object(error).stack ?? error)}`);
      outgoing.destroy();
    });
  };
}

async function serveGraphql(
  { headers }: IncomingMessage,
  outgoing: ServerResponse,
  body: Buffer,
  parts: BackendParts,
  executor: ReturnType<typeof createExecutor>,
): Promise<void> {
  const { world, journal } = parts;
  const violation = (text: string) => void journal.violations.push(text);
  try {
    const request = graphqlRequest(body);
    const parsed = parseRequest(request);
    const recorded = record(parts, parsed.name, parsed.fields, request.variables, headers);
    for (const problem of headerProblems(headers, "application/json")) violation(`${parsed.name}: ${problem}`);
    await respond(
      outgoing,
      parts.faults.take(recorded),
      () => answerGraphql(request, parsed, headers, parts, executor),
    );
  } catch (error) {
    if (!(error instanceof InvalidRequestError)) throw error;
    record(parts, "invalid", [], {}, headers);
    violation(error.message);
    send(outgoing, jsonAnswer({ errors: [{ message: error.message }] }, 400));
  }

  async function answerGraphql(
    request: GraphqlRequest,
    parsed: ParsedRequest,
    sent: IncomingHttpHeaders,
    { rules, launch, pace }: BackendParts,
    execute: typeof executor,
  ): Promise<Answer> {
    const token = authenticate(sent, world);
    if (typeof token === "string") return errorAnswer(token);
    // Refused before its fields are looked at: only `me` of a person is anything.
    if (parsed.fields.includes("me") && token.kind !== "account") return errorAnswer("Not Authorized");
    const looked = new Set<Deployment>();
    const context: Context = {
      world,
      token,
      rules,
      launch,
      looked,
      violation: (text) => violation(`${parsed.name}: ${text}`),
    };
    try {
      const result = await execute(request, parsed, context);
      // Before the deployments move on: an answer shows what was.
      const answer = jsonAnswer(result);
      if (pace === "looks") advanceAll(world, looked);
      return answer;
    } catch (error) {
      if (!(error instanceof InvalidRequestError)) throw error;
      violation(`${parsed.name}: ${error.message}`);
      return jsonAnswer({ errors: [{ message: error.message }] }, 400);
    }
  }
}

/** Only those that had a step left: what one of them brings about for another is seen before it goes on. */
function advanceAll(world: World, looked: Set<Deployment>): void {
  for (const each of [...looked].filter(({ plan }) => plan.length > 0)) advance(world, each);
}

async function serveUpload(
  { headers }: IncomingMessage,
  outgoing: ServerResponse,
  body: Buffer,
  target: UploadTarget,
  parts: BackendParts,
): Promise<void> {
  const { journal } = parts;
  const recorded = record(parts, "up", ["up"], { ...target }, headers);
  for (const problem of headerProblems(headers, "application/gzip")) journal.violations.push(`up: ${problem}`);
  await respond(outgoing, parts.faults.take(recorded), () => acceptUpload(headers, body, target, parts));
}

async function acceptUpload(
  headers: IncomingHttpHeaders,
  body: Buffer,
  { projectId, environmentId, serviceId, message }: UploadTarget,
  { world, journal, launch, maxUploadBytes }: BackendParts,
): Promise<Answer> {
  const token = authenticate(headers, world);
  if (typeof token === "string") return jsonAnswer({ message: token }, 401);
  const instance = findInstance(world, serviceId, environmentId);
  if (instance === undefined || world.environments.get(environmentId)?.projectId !== projectId) {
    return jsonAnswer({ message: "Service not found" }, 404);
  }
  const isAnothers = token.kind === "project"
    ? token.environmentId !== environmentId
    : token.kind === "workspace" && world.projects.get(projectId)?.workspaceId !== token.workspaceId;
  if (isAnothers) return jsonAnswer({ message: "Not Authorized" }, 401);
  if (body.length > maxUploadBytes) return TOO_LARGE;
  try {
    const files = await readUpload(body);
    if (files.length === 0) journal.violations.push("up: an upload without a file");
    const { id } = deploy(world, instance, { files, message }, launch);
    const logsUrl = `https://railway.com/project/${projectId}/service/${serviceId}?id=${id}&`;
    return jsonAnswer({ deploymentId: id, url: logsUrl, logsUrl, deploymentDomain: "" });
  } catch (error) {
    if (!(error instanceof UploadError)) throw error;
    journal.violations.push(`up: ${error.message}`);
    return jsonAnswer({ message: error.message }, 400);
  }
}

/** Lets a request take effect as often as its trouble says, once without one, and sends what is to be sent. */
async function respond(
  outgoing: ServerResponse,
  trouble: Trouble | undefined,
  land: () => Promise<Answer>,
): Promise<void> {
  await trouble?.landsAfter;
  const landings = trouble === undefined ? 1 : trouble.lands ?? 0;
  let answer: Answer | undefined;
  for (let landing = 0; landing < landings; landing++) answer = await land();
  if (trouble?.until !== undefined) {
    await Promise.race([trouble.until, new Promise((resolve) => outgoing.once("close", resolve))]);
  }
  const sent = trouble?.answer ?? answer;
  if (sent === "cut" || sent === undefined) outgoing.destroy();
  else send(outgoing, sent);
}

function record(
  { world, journal }: BackendParts,
  operation: string,
  fields: string[],
  variables: Record<string, unknown>,
  headers: IncomingHttpHeaders,
): RecordedRequest {
  const recorded = {
    number: journal.requests.length + 1,
    operation,
    fields,
    variables,
    serviceIds: serviceIdsIn(variables, (id) => world.services.has(id)),
    headers: Object.fromEntries(Object.entries(headers).map(([name, value]) => [name, String(value)])),
  };
  journal.requests.push(recorded);
  return recorded;
}

function errorAnswer(message: string): Answer {
  return jsonAnswer({ data: null, errors: [{ message }] });
}

function jsonAnswer(body: unknown, status = 200): Answer {
  return { status, headers: { "content-type": "application/json" }, body: JSON.stringify(body) };
}

function send(outgoing: ServerResponse, { status, headers, body }: Answer): void {
  outgoing.writeHead(status, headers).end(body);
}
