import { once } from "node:events";
import { request } from "node:http";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { freePort } from "../../host/free-port.ts";
import { functionsServerCommand } from "../../local/functions-server-command.ts";
import { useApi } from "../client/api.ts";
import { KEYS, startProgram, type TestProgram } from "../local/stand.ts";
import { useDatabase } from "../support/database.ts";
import { type RawRequest, send } from "../support/raw-http.ts";
import { insertService, registryOf } from "../support/services.ts";

// The real function in Deno, behind the real API, rung by somebody who does not know the secret, or knows it and means no good.
const SECRET = "s3cr3t-of-the-doorbell";
const database = useDatabase();
let functionsPort = 0;
beforeAll(async () => {
  functionsPort = await freePort();
});
const api = useApi(database, () => ({ FUNCTIONS_INTERNAL_URL: `http://127.0.0.1:${functionsPort}` }));
let functions: TestProgram;
beforeAll(async () => {
  const { command, arguments: args } = functionsServerCommand();
  functions = await startProgram(command, args, {
    OSP_FUNCTIONS_PORT: String(functionsPort),
    SUPABASE_URL: api.url,
    SUPABASE_SECRET_KEYS: JSON.stringify({ default: KEYS.SECRET_KEY }),
    OSP_WEBHOOK_SECRET: SECRET,
    OSP_DEFAULT_ACTIVITY_ENDPOINT: "http://127.0.0.1:9/{activity}",
  });
  await database.rows(`insert into storage.buckets (id, name, public) values ('manifests', 'manifests', false)
    on conflict (id) do nothing`);
});
afterAll(async () => {
  await functions.stop();
});
beforeEach(async () => {
  await database.rows(`truncate osp.services, osp_metadata.service_intents, osp_metadata.worker_registry cascade`);
  await insertService(database, "a");
});
afterEach(() => {
  const told = functions.stdout() + functions.stderr() + api.log();
  expect(told).not.toContain(SECRET);
  expect(told).not.toContain(KEYS.SECRET_KEY);
});

const PATH = "/functions/v1/queue-worker-build";
const knock = (asked: Partial<RawRequest> = {}) => send(api.url, { method: "POST", path: PATH, body: "{}", ...asked });
const secret = { "x-osp-webhook-secret": SECRET };

async function expectUntouched(): Promise<void> {
  expect(await registryOf(database, "a")).toEqual([]);
  expect(
    await database.rows(`select revision, enqueued_revision, attempts, lease_token from osp_metadata.service_intents`),
  )
    .toEqual([{ revision: 1, enqueued_revision: 0, attempts: 0, lease_token: null }]);
}

describe("without the secret: 401, and nothing happens", () => {
  test.each<[string, Partial<RawRequest>]>([
    ["none", {}],
    ["an empty one", { headers: { "x-osp-webhook-secret": "" } }],
    ["another", { headers: { "x-osp-webhook-secret": "another-secret-of-some-length" } }],
    ["its beginning", { headers: { "x-osp-webhook-secret": SECRET.slice(0, -1) } }],
    ["it and more", { headers: { "x-osp-webhook-secret": `${SECRET}x` } }],
    ["it in capitals", { headers: { "x-osp-webhook-secret": SECRET.toUpperCase() } }],
    ["it with a quote around", { headers: { "x-osp-webhook-secret": `"${SECRET}"` } }],
    ["it twice", { headers: { "x-osp-webhook-secret": [SECRET, SECRET] } }],
    ["10,000 characters", { headers: { "x-osp-webhook-secret": "x".repeat(10_000) } }],
    ["SQL", { headers: { "x-osp-webhook-secret": "' or '1'='1" } }],
    ["characters beyond ASCII", { headers: { "x-osp-webhook-secret": "s\u00e9cret-s\u00e9cret-s\u00e9cret" } }],
    ["it under another name", { headers: { "x-webhook-secret": SECRET } }],
    ["it as a bearer token", { headers: { authorization: `Bearer ${SECRET}` } }],
    ["it as a cookie", { headers: { cookie: `x-osp-webhook-secret=${SECRET}` } }],
    ["it in the query", { path: `${PATH}?x-osp-webhook-secret=${SECRET}` }],
    ["it in the body", { body: JSON.stringify(secret) }],
    ["the key of the API instead", {
      headers: { apikey: KEYS.SECRET_KEY, authorization: `Bearer ${KEYS.SECRET_KEY}` },
    }],
    ["a body that names what to do", { body: JSON.stringify({ service_schema: "a", type: "INSERT", record: {} }) }],
    ["a body of 30 MB", { body: "x".repeat(30_000_000) }],
    ["a body that is no JSON", { body: '{"a":', headers: { "content-type": "application/json" } }],
    ["200,000 levels", { body: "[".repeat(200_000), headers: { "content-type": "application/json" } }],
  ])("%s", async (_, asked) => {
    const { status, text } = await knock(asked);
    expect({ status, text }).toMatchObject({ status: 401 });
    expect(JSON.parse(text)).toEqual({ error: "Unauthorized", message: "x-osp-webhook-secret is missing or wrong" });
    await expectUntouched();
  });

  test.each(["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS"])("by %s", async (method) => {
    expect((await knock({ method, body: "" })).status).toBe(401);
    await expectUntouched();
  });

  test("with a body that does not end: it is not waited for", async () => {
    const { hostname, port } = new URL(api.url);
    const sent = request({
      hostname,
      port,
      path: PATH,
      method: "POST",
      agent: false,
      headers: { "x-osp-webhook-secret": "x" },
    });
    sent.on("error", () => {}); // it is never finished
    sent.write("x".repeat(100_000));
    const [response] = await once(sent, "response");
    expect(response.statusCode).toBe(401);
    sent.destroy();
    await expectUntouched();
  });

  test("200 at once: the next true ring is answered", async () => {
    const statuses = await Promise.all(
      Array.from({ length: 200 }, () => knock({ headers: { "x-osp-webhook-secret": "x".repeat(22) } })),
    );
    expect(new Set(statuses.map(({ status }) => status))).toEqual(new Set([401]));
    await expectUntouched();
    expect(JSON.parse((await knock({ headers: secret })).text)).toMatchObject({ enqueued: 1 });
  });
});

describe("with the secret", () => {
  test.each(["GET", "PUT", "PATCH", "DELETE", "OPTIONS"])("%s rings nothing: 405", async (method) => {
    const { status, text } = await knock({ method, body: "", headers: secret });
    expect({ status, ...JSON.parse(text) }).toMatchObject({ status: 405, error: "MethodNotAllowed" });
    await expectUntouched();
  });

  test.each<[string, string]>([
    ["nothing", ""],
    ["what is no JSON", "%%%"],
    [
      "what would name another service",
      JSON.stringify({ service_schema: "b'; drop table osp.services; --", taken: 7 }),
    ],
    ["prototype keys", '{"__proto__":{"polluted":true},"constructor":{"prototype":{"polluted":true}}}'],
    ["200,000 levels", "[".repeat(200_000)],
    ["30 MB", "x".repeat(30_000_000)],
    ["NUL, bidi and half characters", '"\\u0000\u202e\\ud800"'],
  ])("a body of %s is a ring like any other", async (_, body) => {
    const { status, text } = await knock({ body, headers: { ...secret, "content-type": "application/json" } });
    expect({ status, ...JSON.parse(text) }).toEqual({ status: 200, taken: 1, enqueued: 1, rejected: 0, remaining: 0 });
    expect(await registryOf(database, "a")).toMatchObject([{ revision: 1, deployment_status: "pending" }]);
  });

  test.each([
    "/functions/v1/queue-worker-build/../_shared",
    "/functions/v1/_shared/service.ts",
    "/functions/v1/__proto__",
    "/functions/v1/constructor",
    "/functions/v1/..%2f..%2fetc%2fpasswd",
    "/functions/v1/queue-worker-build%00",
    "/functions/v1/Queue-Worker-Build",
    "/functions/v1//queue-worker-build",
  ])("%s is no function", async (path) => {
    const { status } = await knock({ path, headers: secret });
    expect(status).toBe(404);
    await expectUntouched();
  });

  test("what a row says is in the answer of no ring: only numbers", async () => {
    await database.rows(
      `update osp.services set service_name = 'a name', options = '{"no_such_option": "s3cr3t-value"}'`,
    );
    const { text } = await knock({ headers: secret });
    expect(JSON.parse(text)).toEqual({ taken: 1, enqueued: 0, rejected: 1, remaining: 0 });
    expect(await registryOf(database, "a")).toMatchObject([{
      error_code: "spec_invalid",
      error_message: expect.stringContaining('"no_such_option"'),
    }]);
  });
});
