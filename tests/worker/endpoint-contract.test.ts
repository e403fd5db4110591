import { Validator } from "@seriousme/openapi-schema-validator";
import type { ServerResponse } from "node:http";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { activityCallSchema } from "../../supabase/functions/_shared/activity-call.ts";
import {
  DOCUMENT,
  documentedResponses,
  type GivenAnswer,
  readAnswer,
  requestProblems,
} from "./support/activity-contract.ts";
import { type ActivityServer, startActivityServer } from "./support/activity-server.ts";
import { manifestOf } from "./support/manifests.ts";
import { type ServiceFixture, startServiceFixture, uniqueSchema } from "./support/service-fixture.ts";

// docs/activity-endpoint.yaml beside what a real worker posts and makes of real answers.

interface Case extends GivenAnswer {
  index?: number;
  title: string;
  /** What the workflow returns, or is told. */
  becomes: unknown;
}

const json = { "content-type": "application/json" };
const plain = { "content-type": "text/plain" };
const answer = (status: number, body: unknown, headers: Record<string, string> = json) => ({
  status,
  headers,
  body: body === undefined ? "" : typeof body === "string" && headers === plain ? body : JSON.stringify(body),
});
const result = (title: string, given: GivenAnswer, becomes: unknown): Case => ({ title, ...given, becomes });
const failure = (title: string, given: GivenAnswer, told: RegExp): Case => ({ title, ...given, becomes: told });
const retry = (given: GivenAnswer, told = /./): Case => ({ title: "is tried again", ...given, becomes: told });

const cases: Case[] = [
  result("an object", answer(200, { total: 7 }), { total: 7 }),
  result("a text", answer(200, "paid"), "paid"),
  result("null", answer(200, null), null),
  result("an empty body", answer(200, undefined, {}), null),
  result("a byte order mark before it", { status: 200, headers: json, body: "\ufeff[1]" }, [1]),
  result("created", answer(201, { id: 1 }), { id: 1 }),
  result("accepted, with a charset", answer(202, "ü"), "ü"),
  result("no content", answer(204, undefined, {}), null),
  ...[301, 302, 303, 307, 308].map((status) =>
    failure(
      "a redirect",
      answer(status, undefined, { location: "http://127.0.0.1:9/elsewhere?token=t" }),
      new RegExp(`answered ${status}: a redirect to http://127\\.0\\.0\\.1:9/elsewhere, which is not followed`),
    )
  ),
  failure("not modified", answer(304, undefined, {}), /answered 304: a redirect, which is not followed/),
  failure("message", answer(400, { message: "no such tariff", error: "x" }), /answered 400: no such tariff\. Correct/),
  failure("error", answer(401, { error: "who are you?" }), /answered 401: who are you\?\. Correct/),
  failure("a message within error", answer(403, { error: { message: "not you" } }), /answered 403: not you\. Correct/),
  failure("detail", answer(404, { detail: "no such page" }), /answered 404: no such page\. Correct/),
  failure(
    "a text",
    answer(409, "it is\n\tthere\u001b[2J \u202ealready", plain),
    /answered 409: it is there\\u001b\[2J \\u202ealready\. /,
  ),
  failure("JSON without words", answer(418, [7]), /answered 418: \[7\]\. Correct/),
  failure("nothing", answer(410, undefined, {}), /answered 410\. Correct/),
  failure("a long text", answer(422, "x".repeat(5000), plain), /answered 422: x{300}…\. Correct/),
  retry(answer(408, { message: "too late" }), /answered 408: too late$/),
  retry(answer(425, {})),
  retry(answer(429, { error: "slowly" }, { ...json, "retry-after": "1" }), /answered 429: slowly$/),
  retry(answer(429, {}, { ...json, "retry-after": "Wed, 21 Oct 2015 07:28:00 GMT" })),
  retry(answer(500, "<h1>Oops</h1>", plain), /answered 500: <h1>Oops<\/h1>$/),
  retry(answer(502, undefined, {})),
  retry(answer(503, { message: "away" }, { ...json, "retry-after": "1" })),
  retry(answer(599, {})),
].map((one, index) => ({ ...one, title: `${one.status} ${one.title} (${index})`, index }));
const activityOf = (index = -1) => `case${index}`;

let fixture: ServiceFixture;
let server: ActivityServer;
const schema = uniqueSchema();
const trouble: Record<string, (response: ServerResponse) => void> = {
  closedAtOnce: (response) => response.destroy(),
  closedInTheMiddle: (response) => {
    response.writeHead(200, { "content-type": "application/json", "content-length": "1000" });
    response.write('{"half":', () => response.destroy());
  },
};
beforeAll(async () => {
  fixture = await startServiceFixture();
  server = await startActivityServer(({ body: { activity } }, response, number) => {
    const name = String(activity);
    const act = trouble[name];
    if (number > 1) return response.writeHead(200, json).end('"again"');
    if (act !== undefined) return act(response);
    const { status = 500, headers = {}, body = "" } = cases[Number(name.replace("case", ""))] ?? {};
    return response.writeHead(status, headers).end(body);
  });
  const names = [...cases.keys().map(activityOf), ...Object.keys(trouble)];
  const workflows = Object.fromEntries(names.map((name) => [`run_${name}`, [name]]));
  const options = { activity_endpoint: `${server.url}/${schema}/`, activity_retry: FAST };
  const worker = fixture.worker(fixture.codeRoot({ "manifest.json": manifestOf({ schema, workflows, options }) }));
  await worker.event("worker.ready");
}, 60_000);
afterAll(async () => {
  await server.close();
  await fixture.stop();
}, 60_000);
const FAST = { initial_interval_seconds: 0.05, backoff_coefficient: 1, maximum_interval_seconds: 0.05 };

test("the document is OpenAPI 3.1", async () => {
  const validator = new Validator();
  expect(await validator.validate(DOCUMENT)).toEqual({ valid: true });
  expect(validator.version).toBe("3.1");
});

describe("each answer is as the document says, and becomes of it what it says", () => {
  test.each(cases)("$title", async ({ index, status, headers, body, becomes }) => {
    const documented = readAnswer({ status, headers, body: body.replace(/^\ufeff/, "") });
    expect(documented.problems).toEqual([]);

    const outcome = await run(activityOf(index));

    const calls = callsOf(activityOf(index));
    expect(calls.map(({ body: call }) => call["attempt"])).toEqual(documented.outcome === "retry" ? [1, 2] : [1]);
    if (documented.outcome === "result") expect(outcome).toEqual({ result: becomes });
    if (documented.outcome === "failure") expect(outcome).toEqual({ failure: expect.stringMatching(Object(becomes)) });
    if (documented.outcome === "retry") expect(outcome).toEqual({ result: "again" });
  });

  test("none that the document tells of is left out", () => {
    expect([...new Set(cases.map(({ status, headers }) => readAnswer({ status, headers, body: "" }).key))].sort())
      .toEqual(documentedResponses.toSorted());
  });
});

test.each(Object.keys(trouble))("an answer that is not whole is none: %s", async (name) => {
  expect(await run(name)).toEqual({ result: "again" });
  expect(callsOf(name)).toHaveLength(2);
});

test("each request is as the document says, to its schema and to ours", () => {
  expect(server.calls.length).toBeGreaterThan(cases.length);
  for (const call of server.calls) {
    expect(requestProblems(call)).toEqual([]);
    expect(Object.keys(call.body).sort()).toEqual(Object.keys(activityCallSchema.shape).sort());
    expect(call.idempotencyKey).toBe(call.body["idempotency_key"]);
    expect(call.headers["x-osp-signature"]).toBeUndefined();
  }
});

test("the document tells of a request that is not one", () => {
  const [call] = server.calls;
  if (call === undefined) throw new Error("nothing was called");
  const { input: _, ...body } = call.body;
  expect(requestProblems({ ...call, body: { ...body, attempt: 0 }, headers: { ...call.headers, accept: "*/*" } }))
    .toEqual([
      "body must have required property 'input'",
      "body/attempt must be >= 1",
      "accept must be equal to constant",
    ]);
});

test("attempts of one activity have one idempotency key, and no other activity has it", () => {
  const keys = new Map(server.calls.map(({ body }) => [body["idempotency_key"], body["activity"]]));
  expect(keys.size).toBe(cases.length + Object.keys(trouble).length);
  expect(new Set(keys.values()).size).toBe(keys.size);
});

const callsOf = (activity: string) => server.calls.filter(({ body }) => body["activity"] === activity);

async function run(activity: string): Promise<{ result: unknown } | { failure: string }> {
  const workflow = { taskQueue: `${schema}-tasks`, workflowId: uniqueSchema(), args: [{ customer: 7 }] };
  try {
    return { result: await fixture.client.workflow.execute(`run_${activity}`, workflow) };
  } catch (error) {
    return { failure: rootOf(error) };
  }
}

function rootOf(error: unknown): string {
  return error instanceof Error && error.cause !== undefined ? rootOf(error.cause) : Object(error).message;
}
