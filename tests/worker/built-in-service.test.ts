import { ApplicationFailure, WorkflowFailedError } from "@temporalio/client";
import { setTimeout as pause } from "node:timers/promises";
import { afterAll, beforeAll, expect, onTestFinished, test } from "vitest";
import { freePort } from "../../host/free-port.ts";
import { type ActivityServer, reply, type Responder, startActivityServer } from "./support/activity-server.ts";
import { manifestOf } from "./support/manifests.ts";
import { type ServiceFixture, startServiceFixture, uniqueSchema } from "./support/service-fixture.ts";

let fixture: ServiceFixture;
beforeAll(async () => {
  fixture = await startServiceFixture();
}, 60_000);
afterAll(() => fixture.stop(), 60_000);

test("a manifest alone is a working service: each activity's answer is the next one's input", async () => {
  const service = await startService((call, response) =>
    reply(response, 200, { by: call.path, from: call.body["input"] })
  );

  const result = await service.run("processBilling", { customer: 7 });

  expect(result).toEqual({ by: "/sendInvoice", from: { by: "/calculateCharges", from: { customer: 7 } } });
  expect(service.server.calls.map(({ body }) => body)).toMatchObject([
    {
      service_schema: service.schema,
      revision: 1,
      workflow_type: "processBilling",
      activity: "calculateCharges",
      attempt: 1,
    },
    { activity: "sendInvoice", input: { by: "/calculateCharges" } },
  ]);
  expect(new Set(service.server.calls.map(({ idempotencyKey }) => idempotencyKey)).size).toBe(2);
  expect(service.worker.otherOutput).toEqual([]);
});

test("an answer of 500 is tried again under the same idempotency key", async () => {
  const service = await startService((_, response, number) => reply(response, number === 1 ? 500 : 200, { number }));

  expect(await service.run("oneStep")).toEqual({ number: 2 });

  const [first, second] = service.server.calls;
  expect(second?.idempotencyKey).toBe(first?.idempotencyKey);
  expect(first?.idempotencyKey).toMatch(/^[0-9a-f-]{36}\/.+$/);
  expect(second?.body["attempt"]).toBe(2);
});

test.each<[string, Responder, RegExp]>([
  [
    "an answer of 404",
    (_, response) => reply(response, 404, { message: "no such customer" }),
    /^POST http:\/\/127\.0\.0\.1:\d+\/charge answered 404: no such customer\. Correct the endpoint/,
  ],
  [
    "a redirect",
    (_, response) => response.writeHead(302, { location: "https://elsewhere.example/x?token=t" }).end(),
    /answered 302: a redirect to https:\/\/elsewhere\.example\/x, which is not followed/,
  ],
  [
    "a body that is not JSON",
    (_, response) => response.end("<html>hello</html>"),
    /a body that is not JSON: <html>hello<\/html>\. Answer with JSON or nothing/,
  ],
  [
    "a body above 2 MiB",
    (_, response) => response.end(JSON.stringify("x".repeat(3 * 1024 * 1024))),
    /answered more than 2 MiB/,
  ],
])("%s fails the workflow at once and says what to do", async (_, respond, message) => {
  const service = await startService(respond);

  const failure = await service.run("oneStep").catch((error: unknown) => error);

  expect(rootOf(failure)).toMatchObject({ message: expect.stringMatching(message), nonRetryable: true });
  expect(service.server.calls).toHaveLength(1);
});

test("an empty answer is null", async () => {
  const service = await startService((_, response) => response.writeHead(204).end());
  expect(await service.run("oneStep")).toBe(null);
});

test("an endpoint that comes up late is waited for", async () => {
  const port = await freePort();
  const schema = uniqueSchema();
  const codeRoot = fixture.codeRoot({ "manifest.json": billing(schema, `http://127.0.0.1:${port}`) });
  const worker = fixture.worker(codeRoot);
  await worker.event("worker.ready");
  const running = fixture.client.workflow.start("oneStep", { taskQueue: `${schema}-tasks`, workflowId: schema });
  const handle = await running;
  await eventually(async () => {
    const { pendingActivities } = (await handle.describe()).raw;
    expect(pendingActivities?.[0]?.lastFailure?.message).toMatch(/failed: connect ECONNREFUSED/);
  });
  expect(await handle.query("status")).toEqual({
    workflow: "oneStep",
    activities: ["charge"],
    completed: 0,
    running: "charge",
  });

  const server = await startActivityServer((_, response) => reply(response, 200, "late"), port);
  onTestFinished(() => server.close());

  expect(await handle.result()).toBe("late");
});

test("Retry-After of a 429 sets when the next attempt comes", async () => {
  const service = await startService((_, response, number) =>
    number === 1 ? reply(response, 429, {}, { "retry-after": "3" }) : reply(response, 200, Date.now())
  );
  const startedAt = Date.now();
  expect(Number(await service.run("oneStep")) - startedAt).toBeGreaterThan(2_500);
});

test("no answer in time is tried again until the attempts are used up", async () => {
  const service = await startService(() => {}, { activity_timeout_seconds: 1, activity_max_attempts: 2 });

  const failure = await service.run("oneStep").catch((error: unknown) => error);

  expect(rootOf(failure)).toMatchObject({ message: expect.stringContaining("gave no answer within 1 s") });
  expect(service.server.calls).toHaveLength(2);
});

test("cancelling a workflow aborts the request in flight", async () => {
  let isAborted = false;
  const service = await startService((_, response) => response.on("close", () => isAborted = true));
  const handle = await service.start("oneStep");
  await service.server.call(() => true);

  await handle.cancel();

  await expect(handle.result()).rejects.toBeInstanceOf(WorkflowFailedError);
  await eventually(async () => expect(isAborted).toBe(true));
});

test("a workflow that the service does not have fails at once and names those it has", async () => {
  const service = await startService((_, response) => reply(response, 200, {}));

  const failure = await service.run("procesBilling").catch((error: unknown) => error);

  expect(rootOf(failure)).toMatchObject({
    type: "UnknownWorkflow",
    message:
      `Cannot run workflow "procesBilling": service "${service.schema}" (revision 1) has processBilling, oneStep`,
  });
  expect(failure).toMatchObject({ cause: expect.any(ApplicationFailure) });
});

function billing(schema: string, endpoint: string, options = {}) {
  const workflows = { processBilling: ["calculateCharges", "sendInvoice"], oneStep: ["charge"] };
  return manifestOf({ schema, workflows, options: { activity_endpoint: endpoint, ...options } });
}

async function startService(respond: Responder, options = {}) {
  const server: ActivityServer = await startActivityServer(respond);
  onTestFinished(() => server.close());
  const schema = uniqueSchema();
  const codeRoot = fixture.codeRoot({ "manifest.json": billing(schema, server.url, options) });
  const worker = fixture.worker(codeRoot);
  onTestFinished(() => worker.kill());
  await worker.event("worker.ready");
  const start = (name: string, ...args: unknown[]) =>
    fixture.client.workflow.start(name, { taskQueue: `${schema}-tasks`, workflowId: uniqueSchema(), args });
  return {
    schema,
    server,
    worker,
    start,
    run: async (name: string, ...args: unknown[]) => (await start(name, ...args)).result(),
  };
}

function rootOf(error: unknown): unknown {
  return error instanceof Error && error.cause !== undefined ? rootOf(error.cause) : error;
}

async function eventually(check: () => Promise<void>): Promise<void> {
  const deadline = Date.now() + 20_000;
  for (;;) {
    try {
      return await check();
    } catch (error) {
      if (Date.now() > deadline) throw error;
      await pause(50);
    }
  }
}
