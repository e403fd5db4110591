import { Worker } from "@temporalio/worker";
import { afterAll, beforeAll, expect, onTestFinished, test } from "vitest";
import { cacheDirectory } from "../../host/cache-directory.ts";
import { bundleBuiltInWorkflows } from "../../worker/workflow-bundles.ts";
import { type ActivityServer, reply, startActivityServer } from "./support/activity-server.ts";
import { manifestOf } from "./support/manifests.ts";
import { type ServiceFixture, startServiceFixture, uniqueSchema } from "./support/service-fixture.ts";

let fixture: ServiceFixture;
beforeAll(async () => {
  fixture = await startServiceFixture();
}, 60_000);
afterAll(() => fixture.stop(), 60_000);

test(
  "a running workflow keeps its steps when a revision with other steps takes over; a new one takes the new steps",
  async () => {
    const schema = uniqueSchema();
    const { promise: mayAnswer, resolve: answer } = Promise.withResolvers<void>();
    const server = await startActivityServer(async ({ path, body }, response) => {
      if (path === "/one") await mayAnswer;
      reply(response, 200, [...trail(body["input"]), path]);
    });
    onTestFinished(() => server.close());
    const codeRoot = fixture.codeRoot({
      "manifest.json": revision(1, server, schema, { bill: ["one", "two", "three"] }),
    });
    const first = fixture.worker(codeRoot);
    await first.event("worker.ready");
    const running = await start(schema, "bill");
    await server.call(({ path }) => path === "/one");

    // The new revision has neither the steps nor, under this name, the workflow of the old one.
    codeRoot.write("manifest.json", revision(2, server, schema, { bill: ["four"], other: ["five"] }));
    const second = fixture.worker(codeRoot);
    await second.event("worker.ready");
    first.child.kill("SIGTERM");
    await first.event("worker.draining");
    answer();
    expect(await first.exit()).toMatchObject({ code: 0 });

    expect(await running.result()).toEqual(["/one", "/two", "/three"]);
    expect(server.calls.map(({ path, body }) => [path, body["revision"]])).toEqual([["/one", 1], ["/two", 2], [
      "/three",
      2,
    ]]);
    expect(await (await start(schema, "bill")).result()).toEqual(["/four"]);
  },
  60_000,
);

test("a workflow that a later revision no longer has runs on to its end", async () => {
  const schema = uniqueSchema();
  const server = await startActivityServer((_, response, number) => reply(response, number === 1 ? 503 : 200, "done"));
  onTestFinished(() => server.close());
  const codeRoot = fixture.codeRoot({ "manifest.json": revision(1, server, schema, { retired: ["one"] }) });
  const first = fixture.worker(codeRoot);
  await first.event("worker.ready");
  const running = await start(schema, "retired");
  await server.call(({ path }) => path === "/one");
  await first.kill();

  codeRoot.write("manifest.json", revision(2, server, schema, { other: ["four"] }));
  await fixture.worker(codeRoot).event("worker.ready");

  expect(await running.result()).toBe("done");
}, 60_000);

test("a finished run replays without a worker's manifest", async () => {
  const schema = uniqueSchema();
  const server = await startActivityServer((_, response) => reply(response, 200, 1));
  onTestFinished(() => server.close());
  const codeRoot = fixture.codeRoot({ "manifest.json": revision(1, server, schema, { bill: ["one", "two"] }) });
  await fixture.worker(codeRoot).event("worker.ready");
  const handle = await start(schema, "bill");
  await handle.result();

  const codePath = await bundleBuiltInWorkflows(cacheDirectory(process.env));

  await Worker.runReplayHistory({ workflowBundle: { codePath } }, await handle.fetchHistory());
}, 60_000);

function revision(number: number, server: ActivityServer, schema: string, workflows: Record<string, string[]>) {
  return manifestOf({ schema, revision: number, workflows, options: { activity_endpoint: server.url } });
}

async function start(schema: string, name: string) {
  return await fixture.client.workflow.start(name, { taskQueue: `${schema}-tasks`, workflowId: uniqueSchema() });
}

function trail(input: unknown): unknown[] {
  return Array.isArray(input) ? input : [];
}
