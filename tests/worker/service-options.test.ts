import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import type { Manifest } from "../../supabase/functions/_shared/manifest.ts";
import { eventually } from "../support/services.ts";
import { type ActivityServer, reply, type Responder, startActivityServer } from "./support/activity-server.ts";
import { manifestOf } from "./support/manifests.ts";
import { type ServiceFixture, startServiceFixture, uniqueSchema } from "./support/service-fixture.ts";

let fixture: ServiceFixture;
beforeAll(async () => {
  fixture = await startServiceFixture();
}, 60_000);
afterAll(() => fixture.stop(), 60_000);

type Options = Partial<Manifest["options"]>;

async function server(
  respond: Responder = (_, response, number) => reply(response, 200, number),
): Promise<ActivityServer> {
  const started = await startActivityServer(respond);
  onTestFinished(() => started.close());
  return started;
}

async function service(options: Options, workflows: Record<string, string[]> = { bill: ["one", "two", "three"] }) {
  const schema = uniqueSchema();
  const codeRoot = fixture.codeRoot({ "manifest.json": manifestOf({ schema, workflows, options }) });
  const worker = fixture.worker(codeRoot);
  onTestFinished(() => worker.kill());
  await worker.event("worker.ready");
  const start = (name = "bill", ...args: unknown[]) =>
    fixture.client.workflow.start(name, { taskQueue: `${schema}-tasks`, workflowId: uniqueSchema(), args });
  return { schema, codeRoot, worker, start };
}

type Handle = Awaited<ReturnType<Awaited<ReturnType<typeof service>>["start"]>>;

/** How Temporal was asked to run each activity, in seconds. */
async function scheduled(handle: Handle) {
  const { events } = await handle.fetchHistory();
  const seconds = (duration: { seconds?: unknown; nanos?: number | null } | null | undefined) =>
    Number(duration?.seconds ?? 0) + (duration?.nanos ?? 0) / 1e9;
  return (events ?? []).flatMap(({ activityTaskScheduledEventAttributes: one }) =>
    one === null || one === undefined ? [] : [{
      activity: one.activityType?.name,
      timeout: seconds(one.startToCloseTimeout),
      attempts: one.retryPolicy?.maximumAttempts,
      waits: [
        seconds(one.retryPolicy?.initialInterval),
        one.retryPolicy?.backoffCoefficient,
        seconds(one.retryPolicy?.maximumInterval),
      ],
    }]
  );
}

test("each activity is run by its own options, else by those of all", async () => {
  const { url } = await server();
  const { start } = await service({
    activity_endpoint: url,
    activity_timeout_seconds: 30,
    activity_max_attempts: 4,
    activity_retry: { initial_interval_seconds: 0.5, backoff_coefficient: 3, maximum_interval_seconds: 9 },
    activities: {
      two: { timeout_seconds: 5, max_attempts: 1 },
      three: { retry: { initial_interval_seconds: 20 } },
    },
  });
  const handle = await start();
  await handle.result();
  expect(await scheduled(handle)).toEqual([
    { activity: "one", timeout: 30, attempts: 4, waits: [0.5, 3, 9] },
    { activity: "two", timeout: 5, attempts: 1, waits: [0.5, 3, 9] },
    { activity: "three", timeout: 30, attempts: 4, waits: [20, 3, 20] },
  ]);
});

test("without options an activity is tried until it succeeds: 1 s, doubling, at most a minute", async () => {
  const { url } = await server();
  const { start } = await service({ activity_endpoint: url }, { bill: ["one"] });
  const handle = await start();
  await handle.result();
  expect(await scheduled(handle)).toEqual([{ activity: "one", timeout: 20, attempts: 0, waits: [1, 2, 60] }]);
});

test("an activity's own endpoint gets its calls, and no other", async () => {
  const [all, own] = [await server(), await server()];
  const { start } = await service({
    activity_endpoint: all.url,
    activities: { two: { endpoint: `${own.url}/special?of={activity}` } },
  });
  await (await start()).result();
  expect(all.calls.map(({ path }) => path)).toEqual(["/one", "/three"]);
  expect(own.calls.map(({ path }) => path)).toEqual(["/special?of=two"]);
});

test("a running workflow keeps the options that it began with, whatever a later revision says", async () => {
  const { promise: mayAnswer, resolve: answer } = Promise.withResolvers<void>();
  const { url, call } = await server(async ({ path }, response, number) => {
    if (path === "/one") await mayAnswer;
    reply(response, 200, number);
  });
  const { schema, codeRoot, worker, start } = await service({
    activity_endpoint: url,
    activity_max_attempts: 7,
    activities: { two: { timeout_seconds: 11 } },
  });
  const running = await start();
  await call(({ path }) => path === "/one");
  const later = { activity_endpoint: url, activity_timeout_seconds: 99, activities: { two: { timeout_seconds: 98 } } };
  codeRoot.write(
    "manifest.json",
    manifestOf({ schema, revision: 2, workflows: { bill: ["one", "two"] }, options: later }),
  );
  await fixture.worker(codeRoot).event("worker.ready");
  worker.child.kill("SIGTERM");
  await worker.event("worker.draining");
  answer();
  await running.result();

  expect(await scheduled(running)).toMatchObject([
    { activity: "one", timeout: 20, attempts: 7 },
    { activity: "two", timeout: 11, attempts: 7 },
    { activity: "three", timeout: 20, attempts: 7 },
  ]);
});

test.each<[string, (ours: string) => Options]>([
  ["names another endpoint for all", (ours) => ({ activity_endpoint: ours })],
  ["names endpoints for its own activities alone", (ours) => ({ activities: { four: { endpoint: ours } } })],
])("an activity that a later revision no longer has goes where it always went, when that %s", async (_, later) => {
  const [all, own, ours] = [
    await server(),
    await server((_call, response, number) => {
      reply(response, number === 1 ? 503 : 200, number);
    }),
    await server(),
  ];
  const { schema, codeRoot, worker, start } = await service({
    activity_endpoint: all.url,
    activities: { one: { endpoint: own.url } },
  }, { bill: ["one"] });
  const running = await start();
  await own.call(() => true);
  await worker.kill();
  const options = later(ours.url);
  codeRoot.write("manifest.json", manifestOf({ schema, revision: 2, workflows: { other: ["four"] }, options }));
  await fixture.worker(codeRoot).event("worker.ready");

  expect(await running.result()).toBe(2);
  expect([all.calls.length, ours.calls.length]).toEqual([0, 0]);
}, 60_000);

test("an activity that nobody names an endpoint for any more waits until somebody does", async () => {
  const [before, ours] = [await server((_, response) => reply(response, 503, {})), await server()];
  const { schema, codeRoot, worker, start } = await service({ activity_endpoint: before.url }, { bill: ["one"] });
  // Beside so large an input its endpoint is not recorded.
  const running = await start("bill", "x".repeat(700_000));
  await before.call(() => true);
  await worker.kill();
  const revise = (revision: number, options: Options) => {
    codeRoot.write("manifest.json", manifestOf({ schema, revision, workflows: { other: ["four"] }, options }));
    return fixture.worker(codeRoot);
  };
  const second = revise(2, { activities: { four: { endpoint: ours.url } } });
  await second.event("worker.ready");
  const told = await eventually(
    async () => (await running.describe()).raw.pendingActivities?.[0]?.lastFailure?.message ?? "",
    (message) => message.includes("names no endpoint"),
  );
  expect(told).toBe(
    `Service "${schema}" (revision 2) names no endpoint for the activity "one", with which a running workflow began: ` +
      "set options.activity_endpoint",
  );
  await second.kill();

  await revise(3, { activity_endpoint: ours.url }).event("worker.ready");
  expect(await running.result()).toBe(1);
}, 90_000);

describe("how much a worker runs at once", () => {
  async function runTwo(max_concurrent_activities: number) {
    const { promise: mayAnswer, resolve: answer } = Promise.withResolvers<void>();
    const one = await server(async (_, response, number) => {
      await mayAnswer;
      reply(response, 200, number);
    });
    const { start } = await service({ activity_endpoint: one.url, max_concurrent_activities }, { bill: ["one"] });
    const handles = [await start(), await start()];
    await one.call(() => true);
    return { handles, answer, calls: one.calls };
  }
  const states = async (handles: Handle[]) =>
    (await Promise.all(handles.map(async (handle) => (await handle.describe()).raw.pendingActivities?.[0]?.state)))
      .toSorted((one, other) => Number(one) - Number(other));

  test("one activity: the next one waits in Temporal until it has ended", async () => {
    const { handles, answer, calls } = await runTwo(1);
    // 1 scheduled, 2 started.
    await eventually(() => states(handles), (found) => found.join() === "1,2");
    expect(calls).toHaveLength(1);
    answer();
    await Promise.all(handles.map((handle) => handle.result()));
    expect(calls).toHaveLength(2);
  });

  test("two activities are called though neither has been answered", async () => {
    const { handles, answer, calls } = await runTwo(2);
    await eventually(() => Promise.resolve(calls.length), (count) => count === 2);
    answer();
    await Promise.all(handles.map((handle) => handle.result()));
  });
});

test("a worker begins no more activities in a second than its service says", async () => {
  const at: number[] = [];
  const { url } = await server((_, response) => {
    at.push(performance.now());
    reply(response, 200, 1);
  });
  const { start } = await service({ activity_endpoint: url, max_activities_per_second: 2 }, { bill: ["one"] });
  const handles = await Promise.all(Array.from({ length: 10 }, () => start()));
  await Promise.all(handles.map((handle) => handle.result()));
  expect(Math.max(...at) - Math.min(...at)).toBeGreaterThan(1500); // some at once at first, the rest two in a second
}, 60_000);

test("Temporal is told how many activities all workers together may begin in a second", async () => {
  const { schema } = await service({
    activity_endpoint: "http://127.0.0.1:9",
    max_task_queue_activities_per_second: 7.5,
  });
  const { pollers } = await fixture.client.workflowService.describeTaskQueue({
    namespace: "default",
    taskQueue: { name: `${schema}-tasks`, kind: 1 },
    taskQueueType: 2,
  });
  expect(pollers).toMatchObject([{ ratePerSecond: 7.5 }]);
});
