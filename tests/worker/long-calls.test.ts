import { afterAll, beforeAll, expect, onTestFinished, test } from "vitest";
import { createCaller } from "../../worker/service/caller.ts";
import { postActivity } from "../../worker/service/post-activity.ts";
import { eventually } from "../support/services.ts";
import { reply, type Responder, startActivityServer } from "./support/activity-server.ts";
import { manifestOf } from "./support/manifests.ts";
import { type ServiceFixture, startServiceFixture, uniqueSchema } from "./support/service-fixture.ts";

let fixture: ServiceFixture;
beforeAll(async () => {
  fixture = await startServiceFixture();
}, 60_000);
afterAll(() => fixture.stop(), 60_000);

/** A service whose activity may take an hour. */
async function startService(respond: Responder) {
  const server = await startActivityServer(respond);
  onTestFinished(() => server.close());
  const schema = uniqueSchema();
  const options = { activity_endpoint: server.url, activity_timeout_seconds: 3600, activity_max_attempts: 2 };
  const codeRoot = fixture.codeRoot({ "manifest.json": manifestOf({ schema, workflows: { bill: ["one"] }, options }) });
  const worker = fixture.worker(codeRoot);
  onTestFinished(() => worker.kill());
  await worker.event("worker.ready");
  const handle = await fixture.client.workflow.start("bill", { taskQueue: `${schema}-tasks`, workflowId: schema });
  await server.call(() => true);
  return { server, codeRoot, worker, handle };
}

type Handle = Awaited<ReturnType<typeof startService>>["handle"];
const pending = async (handle: Handle) => (await handle.describe()).raw.pendingActivities?.[0];

test("a call that outlasts the time in which a lost worker is noticed is still one attempt", async () => {
  const { promise: mayAnswer, resolve: answer } = Promise.withResolvers<void>();
  const { server, handle } = await startService((_, response) =>
    void mayAnswer.then(() => reply(response, 200, "done"))
  );
  const began = await eventually(() => pending(handle), (activity) => activity?.lastStartedTime != null);
  const beganAt = Number(began?.lastStartedTime?.seconds);
  // The heartbeat timeout is 10 s; this is well after it.
  await eventually(
    () => pending(handle),
    (activity) => Number(activity?.lastHeartbeatTime?.seconds ?? 0) - beganAt >= 14,
  );
  answer();
  expect(await handle.result()).toBe("done");
  expect(server.calls.map(({ body }) => body["attempt"])).toEqual([1]);
});

test("a killed worker's call moves on to another worker, long before its hour is over", async () => {
  const { server, codeRoot, worker, handle } = await startService((_, response, number) => {
    if (number > 1) reply(response, 200, "done");
  });
  await worker.kill();
  fixture.worker(codeRoot);
  expect(await handle.result()).toBe("done");
  expect(server.calls.map(({ body }) => body["attempt"])).toEqual([1, 2]);
  expect(server.calls[1]?.idempotencyKey).toBe(server.calls[0]?.idempotencyKey);
  const { events } = await handle.fetchHistory();
  const failures = events?.flatMap(({ activityTaskStartedEventAttributes: started }) =>
    started?.lastFailure?.message ?? []
  );
  expect(failures).toEqual([expect.stringMatching(/heartbeat timeout/i)]);
});

// Own workflows give their activities what timeouts they like; timers take whole milliseconds, up to 24.8 days.
test.each([5_001, 30 * 86_400_000])("a call that may take %d ms is made", async (timeoutMs) => {
  const server = await startActivityServer((_, response) => reply(response, 200, "done"));
  onTestFinished(() => server.close());
  const ids = { workflow_id: "w", run_id: "r", workflow_type: "bill", activity: "one", idempotency_key: "r/1" };
  const call = { service_schema: "s", revision: 1, attempt: 1, input: null, ...ids };
  const loopback = [{ address: "127.0.0.1", prefix: 32, family: "ipv4" }] as const;
  const caller = createCaller({ networks: [...loopback], allowsPlainHttp: true, secrets: [] });
  expect(await postActivity({ url: server.url, call, timeoutMs, signal: new AbortController().signal }, caller))
    .toBe("done");
});
