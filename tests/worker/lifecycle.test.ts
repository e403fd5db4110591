import { msToTs } from "@temporalio/common/lib/time.js";
import { readdirSync } from "node:fs";
import { afterAll, beforeAll, expect, onTestFinished, test } from "vitest";
import { parseWorkerIdentity } from "../../supabase/functions/_shared/worker-identity.ts";
import { startTemporalServer } from "../support/temporal-server.ts";
import { freePort } from "../../host/free-port.ts";
import { reply, startActivityServer } from "./support/activity-server.ts";
import { manifestOf } from "./support/manifests.ts";
import { type ServiceFixture, startServiceFixture, uniqueSchema } from "./support/service-fixture.ts";

let fixture: ServiceFixture;
beforeAll(async () => {
  fixture = await startServiceFixture();
}, 60_000);
afterAll(() => fixture.stop(), 60_000);

test("the pollers of a ready worker carry service, revision and process", async () => {
  const schema = uniqueSchema();
  const worker = fixture.worker(codeRootOf(schema));
  const { identity } = await worker.event("worker.ready");
  const { pollers } = await fixture.client.workflowService.describeTaskQueue({
    namespace: "default",
    taskQueue: { name: `${schema}-tasks`, kind: 1 },
    taskQueueType: 2,
  });
  expect(pollers).toMatchObject([{
    identity,
    deploymentOptions: { deploymentName: schema, buildId: expect.stringMatching(/^[0-9a-f]{16}$/) },
  }]);
  expect(parseWorkerIdentity(String(identity))).toMatchObject({ serviceSchema: schema, revision: 1 });
});

test("/readyz says 503 while Temporal is away and 200 once every queue is polled", async () => {
  const [port, temporalPort] = [await freePort(), await freePort()];
  const worker = fixture.worker(codeRootOf(uniqueSchema()), {
    PORT: String(port),
    TEMPORAL_ADDRESS: `127.0.0.1:${temporalPort}`,
  });
  await worker.event("worker.connect_failed");
  const statusOf = async (path: string) => (await fetch(`http://127.0.0.1:${port}${path}`)).status;
  expect([await statusOf("/healthz"), await statusOf("/readyz"), await statusOf("/")]).toEqual([200, 503, 404]);

  const late = await startTemporalServer(temporalPort);
  onTestFinished(() => late.stop());

  expect(await worker.event("worker.ready")).toMatchObject({ port });
  expect(await statusOf("/readyz")).toBe(200);
  await late.stop();
  expect(await statusOf("/readyz")).toBe(503);
  await worker.kill();
}, 60_000);

test("a Temporal that stays away ends the worker with 69", async () => {
  const worker = fixture.worker(codeRootOf(uniqueSchema()), {
    TEMPORAL_ADDRESS: `127.0.0.1:${await freePort()}`,
    OSP_CONNECT_DEADLINE_SECONDS: "2",
  });
  expect(await worker.exit()).toMatchObject({
    code: 69,
    last: {
      event: "worker.exit",
      code: 69,
      problems: [expect.stringMatching(/could not be reached within 2 s: .*refused/)],
    },
  });
});

test.each([
  ["an address that is none", { TEMPORAL_ADDRESS: "https://temporal.example" }, /Invalid address/],
  ["TLS towards a plaintext server", { TEMPORAL_TLS: "true" }, /refuses: .*Correct the TEMPORAL_\* variables/],
])("%s is not tried again", async (_, environment, problem) => {
  const worker = fixture.worker(codeRootOf(uniqueSchema()), environment);
  expect(await worker.exit()).toMatchObject({ code: 78, last: { problems: [expect.stringMatching(problem)] } });
});

test("blank TEMPORAL variables count as not set", async () => {
  const blank = { TEMPORAL_API_KEY: "", TEMPORAL_NAMESPACE: " ", TEMPORAL_TLS: "" };
  await fixture.worker(codeRootOf(uniqueSchema()), blank).event("worker.ready");
});

test.each([
  ["SIGTERM lets", 1],
  ["SIGTERM twice at once is one: it lets", 2],
])("%s an activity in flight finish on its first attempt", async (...[, signals]) => {
  const { promise: mayAnswer, resolve: answer } = Promise.withResolvers<void>();
  const server = await startActivityServer((_, response) => void mayAnswer.then(() => reply(response, 200, "done")));
  onTestFinished(() => server.close());
  const schema = uniqueSchema();
  const worker = fixture.worker(codeRootOf(schema, server.url));
  await worker.event("worker.ready");
  const handle = await fixture.client.workflow.start("bill", { taskQueue: `${schema}-tasks`, workflowId: schema });
  await server.call(() => true);

  worker.child.kill("SIGTERM");
  await worker.event("worker.draining");
  for (let sent = 1; sent < signals; sent++) worker.child.kill("SIGTERM");
  answer();

  expect(await worker.exit()).toMatchObject({ code: 0, last: { event: "worker.exit", code: 0, problems: [] } });
  const { events } = await handle.fetchHistory();
  expect(events?.some((event) => event.activityTaskCompletedEventAttributes)).toBe(true);
  expect(server.calls).toHaveLength(1);
});

test("an activity that outlasts the drain time is aborted and tried again by the next worker", async () => {
  const server = await startActivityServer((_, response, number) => void (number > 1 && reply(response, 200, "done")));
  onTestFinished(() => server.close());
  const schema = uniqueSchema();
  const codeRoot = codeRootOf(schema, server.url);
  const worker = fixture.worker(codeRoot, { OSP_DRAIN_SECONDS: "1" });
  await worker.event("worker.ready");
  const handle = await fixture.client.workflow.start("bill", { taskQueue: `${schema}-tasks`, workflowId: schema });
  await server.call(() => true);

  worker.child.kill("SIGTERM");

  expect(await worker.exit()).toMatchObject({ code: 0 });
  fixture.worker(codeRoot);
  expect(await handle.result()).toBe("done");
  expect(server.calls[1]?.body["attempt"]).toBe(2);
}, 40_000);

test("an activity of own code that ignores its cancellation ends the worker with 70", async () => {
  const schema = uniqueSchema();
  const codeRoot = fixture.codeRoot({
    "activities.mjs":
      `export const hang = async () => { console.log('{"event":"hanging"}'); await new Promise(() => {}); };`,
    "manifest.json": manifestOf({ schema, workflows: { bill: ["hang"] }, activitiesPath: "activities.mjs" }),
  });
  const worker = fixture.worker(codeRoot, { OSP_DRAIN_SECONDS: "0" });
  await worker.event("worker.ready");
  await fixture.client.workflow.start("bill", { taskQueue: `${schema}-tasks`, workflowId: schema });
  await worker.event("hanging");

  worker.child.kill("SIGTERM");

  expect(await worker.exit(20_000)).toMatchObject({
    code: 70,
    last: { event: "worker.exit", code: 70, problems: [expect.stringContaining("ignored their cancellation for 5 s")] },
  });
}, 40_000);

test("a second SIGTERM hurries the drain: the worker ends long before its drain time", async () => {
  const server = await startActivityServer((_, response, number) => void (number > 1 && reply(response, 200, "done")));
  onTestFinished(() => server.close());
  const schema = uniqueSchema();
  const codeRoot = codeRootOf(schema, server.url);
  const worker = fixture.worker(codeRoot, { OSP_DRAIN_SECONDS: "600" });
  await worker.event("worker.ready");
  const handle = await fixture.client.workflow.start("bill", { taskQueue: `${schema}-tasks`, workflowId: schema });
  await server.call(() => true);
  worker.child.kill("SIGTERM");
  await worker.event("worker.draining");

  const repeated = setInterval(() => worker.child.kill("SIGTERM"), 500);
  onTestFinished(() => clearInterval(repeated));

  expect(await worker.exit(30_000)).toMatchObject({
    code: 70,
    last: { problems: [expect.stringMatching(/second SIGTERM .* within 5 s: .* Temporal's retries/)] },
  });
  fixture.worker(codeRoot);
  expect(await handle.result()).toBe("done");
}, 60_000);

test("a second SIGINT ends the worker while it drains", async () => {
  const server = await startActivityServer(() => {});
  onTestFinished(() => server.close());
  const schema = uniqueSchema();
  const worker = fixture.worker(codeRootOf(schema, server.url));
  await worker.event("worker.ready");
  await fixture.client.workflow.start("bill", { taskQueue: `${schema}-tasks`, workflowId: schema });
  await server.call(() => true);
  worker.child.kill("SIGINT");
  await worker.event("worker.draining");

  worker.child.kill("SIGINT");

  expect(await worker.exit(15_000)).toMatchObject({ code: 70, last: { event: "worker.exit", code: 70 } });
});

test("a worker whose namespace goes away ends itself with 70", async () => {
  const namespace = uniqueSchema();
  await fixture.client.workflowService.registerNamespace({
    namespace,
    workflowExecutionRetentionPeriod: msToTs("1 day"),
  });
  const worker = fixture.worker(codeRootOf(uniqueSchema()), { TEMPORAL_NAMESPACE: namespace });
  await worker.event("worker.ready");
  await fixture.client.connection.operatorService.deleteNamespace({ namespace });
  expect(await worker.exit(100_000)).toMatchObject({
    code: 70,
    last: { problems: [expect.stringMatching(/refuses this worker: .*not found/)] },
  });
}, 120_000);

test("a worker that is up before its namespace waits for it", async () => {
  const namespace = uniqueSchema();
  const worker = fixture.worker(codeRootOf(uniqueSchema()), { TEMPORAL_NAMESPACE: namespace });
  expect(await worker.event("worker.connect_failed")).toMatchObject({ reason: expect.stringMatching(/not found/i) });
  await fixture.client.workflowService.registerNamespace({
    namespace,
    workflowExecutionRetentionPeriod: msToTs("1 day"),
  });
  await worker.event("worker.ready");
  worker.child.kill("SIGTERM");
  expect(await worker.exit()).toMatchObject({ code: 0 });
}, 60_000);

test("a signal while the worker waits for Temporal ends it at once, cleanly", async () => {
  const worker = fixture.worker(codeRootOf(uniqueSchema()), { TEMPORAL_ADDRESS: `127.0.0.1:${await freePort()}` });
  await worker.event("worker.connect_failed");
  worker.child.kill("SIGTERM");
  expect(await worker.exit(15_000)).toMatchObject({ code: 0, last: { event: "worker.exit", code: 0 } });
});

test("one bundle serves all services and starts, the second start makes none", async () => {
  const cache = fixture.codeRoot({});
  const bundles = () => readdirSync(`${cache.path}/workflow-bundles`);
  await fixture.worker(codeRootOf(uniqueSchema()), { OSP_CACHE_DIR: cache.path }).event("worker.ready");
  const first = bundles();
  await fixture.worker(codeRootOf(uniqueSchema()), { OSP_CACHE_DIR: cache.path }).event("worker.ready");
  expect(first).toEqual([expect.stringMatching(/^[0-9a-f]{64}\.js$/)]);
  expect(bundles()).toEqual(first);
}, 60_000);

test("a cache directory that cannot be written is done without", async () => {
  const worker = fixture.worker(codeRootOf(uniqueSchema()), { OSP_CACHE_DIR: "/dev/null/cache" });
  await worker.event("worker.ready");
}, 60_000);

function codeRootOf(schema: string, endpoint = "http://127.0.0.1:9") {
  const manifest = manifestOf({ schema, workflows: { bill: ["charge"] }, options: { activity_endpoint: endpoint } });
  return fixture.codeRoot({ "manifest.json": manifest });
}
