import { afterAll, beforeAll, expect, onTestFinished, test } from "vitest";
import { verifyActivityRequest } from "../../client/activity-endpoint.ts";
import { reply, startActivityServer } from "./support/activity-server.ts";
import { manifestOf } from "./support/manifests.ts";
import { type ServiceFixture, startServiceFixture, uniqueSchema } from "./support/service-fixture.ts";

const NEW = "the-new-secret-of-all-workers";
const OLD = "the-secret-of-all-workers-before";

let fixture: ServiceFixture;
beforeAll(async () => {
  fixture = await startServiceFixture();
}, 60_000);
afterAll(() => fixture.stop(), 60_000);

async function runSigned(environment: Record<string, string>, input: unknown = { name: "Zoë 🍜" }) {
  // Its first answer has every attempt signed anew.
  const server = await startActivityServer((_, response, number) => reply(response, number === 1 ? 503 : 200, number));
  onTestFinished(() => server.close());
  const schema = uniqueSchema();
  const manifest = manifestOf({ schema, workflows: { bill: ["one"] }, options: { activity_endpoint: server.url } });
  const worker = fixture.worker(fixture.codeRoot({ "manifest.json": manifest }), environment);
  onTestFinished(() => worker.kill());
  await worker.event("worker.ready");
  const workflow = { taskQueue: `${schema}-tasks`, workflowId: schema, args: [input] };
  const handle = await fixture.client.workflow.start("bill", workflow);
  expect(await handle.result()).toBe(2);
  return { calls: server.calls, worker, history: JSON.stringify(await handle.fetchHistory()) };
}

test("each attempt is signed, and verifies by either secret while there are two", async () => {
  const { calls, worker, history } = await runSigned({ OSP_ACTIVITY_SECRET: NEW, OSP_ACTIVITY_SECRET_PREVIOUS: OLD });
  expect(calls).toHaveLength(2);
  for (const { headers, raw, body } of calls) {
    for (const secret of [NEW, OLD]) {
      expect(await verifyActivityRequest({ headers, body: raw }, { secret })).toEqual(body);
    }
    const wrong = { secret: "of-somebody-else-altogether" };
    await expect(verifyActivityRequest({ headers, body: raw }, wrong)).rejects.toThrow(/is not that of this body/);
  }
  expect(calls.map(({ body }) => body["attempt"])).toEqual([1, 2]);
  const told = [JSON.stringify(worker.lines), worker.otherOutput.join(), history, JSON.stringify(calls)].join();
  expect([NEW, OLD].filter((secret) => told.includes(secret))).toEqual([]);
});

test("a large input is signed as it is sent", async () => {
  const { calls } = await runSigned({ OSP_ACTIVITY_SECRET: NEW }, "ü".repeat(700_000));
  for (const { headers, raw } of calls) {
    expect(await verifyActivityRequest({ headers, body: raw }, { secret: NEW })).toMatchObject({ activity: "one" });
  }
});
