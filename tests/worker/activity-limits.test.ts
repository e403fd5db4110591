import { afterAll, beforeAll, expect, onTestFinished, test } from "vitest";
import type { Manifest } from "../../supabase/functions/_shared/manifest.ts";
import { eventually } from "../support/services.ts";
import { reply, type Responder, startActivityServer } from "./support/activity-server.ts";
import { manifestOf } from "./support/manifests.ts";
import { type ServiceFixture, startServiceFixture, uniqueSchema } from "./support/service-fixture.ts";

let fixture: ServiceFixture;
beforeAll(async () => {
  fixture = await startServiceFixture();
}, 60_000);
afterAll(() => fixture.stop(), 60_000);

interface Revision {
  workflows: Record<string, string[]>;
  options: Partial<Manifest["options"]>;
}

/**
 * A service whose revisions run one after another; each `deploy` ends the worker of the one before, as a rollout does.
 *
 * @param waitSeconds how long an activity with limits waits until it is scheduled anew, at first
 */
function service(respond: Responder, waitSeconds = 600) {
  const schema = uniqueSchema();
  let revision = 0;
  const codeRoot = fixture.codeRoot({});
  const server = startActivityServer(respond);
  onTestFinished(async () => (await server).close());
  let running: ReturnType<ServiceFixture["worker"]> | undefined;
  /** A worker beside the one that runs. */
  const begin = async ({ options, ...rest }: Revision) => {
    const { url } = await server;
    codeRoot.write(
      "manifest.json",
      manifestOf({ schema, revision: ++revision, options: { activity_endpoint: url, ...options }, ...rest }),
    );
    const worker = fixture.worker(codeRoot, { OSP_LIMITED_WAIT_SECONDS: String(waitSeconds) });
    onTestFinished(() => worker.kill());
    return { ready: { ...await worker.event("worker.capacity"), ...await worker.event("worker.ready") }, worker };
  };
  return {
    schema,
    begin,
    async deploy(next: Revision) {
      const { ready, worker } = await begin(next);
      running?.child.kill("SIGTERM");
      running = worker;
      return ready;
    },
    calls: async () => (await server).calls.map(({ path }) => path),
    start: (workflow: string) =>
      fixture.client.workflow.start(workflow, {
        taskQueue: `${schema}-tasks`,
        workflowId: uniqueSchema(),
        args: [null],
      }),
  };
}

type Handle = Awaited<ReturnType<ReturnType<typeof service>["start"]>>;

/** Each time that an activity was scheduled: under which id, and on which task queue. */
async function scheduled(handle: Handle): Promise<[id: string, taskQueue: string][]> {
  const { events } = await handle.fetchHistory();
  return (events ?? []).flatMap(({ activityTaskScheduledEventAttributes: one }): [string, string][] =>
    one?.taskQueue?.name ? [[one.activityId ?? "", one.taskQueue.name]] : []
  );
}

/** Answers when it is told to. */
function onTold() {
  const { promise, resolve } = Promise.withResolvers<void>();
  const respond: Responder = async ({ path }, response, number) => {
    if (path === "/slow") await promise;
    reply(response, 200, number);
  };
  return { respond, answer: resolve };
}

const count = (paths: string[], path: string) => paths.filter((one) => one === path).length;

test("of a limited activity so many run at once, and others are not held up by those that wait", async () => {
  const { respond, answer } = onTold();
  const { schema, deploy, calls, start } = service(respond);
  const ready = await deploy({
    workflows: { limited: ["slow"], free: ["quick"] },
    options: { max_concurrent_activities: 4, activities: { slow: { max_concurrent: 2 } } },
  });
  expect(ready).toMatchObject({
    task_queues: [`${schema}-tasks`, `${schema}-tasks:slow`],
    activities: 2,
    activities_apart: { [`${schema}-tasks:slow`]: 2 },
  });
  const limited = await Promise.all(Array.from({ length: 6 }, () => start("limited")));
  await eventually(calls, (paths) => count(paths, "/slow") === 2);
  const free = await Promise.all(Array.from({ length: 6 }, () => start("free")));
  await Promise.all(free.map((handle) => handle.result()));
  expect(count(await calls(), "/slow")).toBe(2);
  answer();
  await Promise.all(limited.map((handle) => handle.result()));
  expect(count(await calls(), "/slow")).toBe(6);
}, 60_000);

test("of a limited activity no more begin in a second than its limit says", async () => {
  const at: number[] = [];
  const { deploy, start } = service((_, response) => {
    at.push(performance.now());
    reply(response, 200, 1);
  });
  await deploy({ workflows: { limited: ["rare"] }, options: { activities: { rare: { max_per_second: 2 } } } });
  const handles = await Promise.all(Array.from({ length: 10 }, () => start("limited")));
  await Promise.all(handles.map((handle) => handle.result()));
  expect(Math.max(...at) - Math.min(...at)).toBeGreaterThan(1500); // some at once at first, the rest two in a second
}, 60_000);

test("Temporal is told how many of a limited activity all workers together may begin in a second", async () => {
  const { schema, deploy } = service((_, response) => reply(response, 200, 1));
  await deploy({
    workflows: { limited: ["rare"] },
    options: { activities: { rare: { max_task_queue_per_second: 7.5 } } },
  });
  const { pollers } = await fixture.client.workflowService.describeTaskQueue({
    namespace: "default",
    taskQueue: { name: `${schema}-tasks:rare`, kind: 1 },
    taskQueueType: 2,
  });
  expect(pollers).toMatchObject([{ ratePerSecond: 7.5 }]);
});

test("what waits for its turn goes on under a revision without the limit, and without the activity", async () => {
  const { respond, answer } = onTold();
  const { schema, deploy, calls, start } = service(respond, 1);
  const [main, apart] = [`${schema}-tasks`, `${schema}-tasks:slow`];
  await deploy({ workflows: { limited: ["slow", "last"] }, options: { activities: { slow: { max_concurrent: 1 } } } });
  const first = await start("limited");
  await eventually(calls, (paths) => count(paths, "/slow") === 1);
  const second = await start("limited");
  await eventually(() => scheduled(second), (found) => found.length > 0);
  await deploy({ workflows: { limited: ["other"] }, options: {} });
  await eventually(() => scheduled(second), (found) => found.at(-1)?.[1] === main);
  // Under the id that it had (1 is the plan's), by which the endpoint knows it.
  expect(new Set((await scheduled(second)).map((one) => one.join()))).toEqual(new Set([`2,${apart}`, `2,${main}`]));
  answer();
  await Promise.all([first, second].map((handle) => handle.result()));
  expect((await scheduled(first)).map(([, queue]) => queue)).toEqual([apart, main]);
}, 60_000);

test("what a revision scheduled that was never deployed goes on under the one before it", async () => {
  const { respond, answer } = onTold();
  const { schema, deploy, begin, start } = service(respond, 1);
  const [main, apart] = [`${schema}-tasks`, `${schema}-tasks:slow`];
  const workflows = { work: ["slow"] };
  await deploy({ workflows, options: {} });
  const { worker: failing } = await begin({ workflows, options: { activities: { slow: { max_concurrent: 1 } } } });
  /** One whose workflow came to the failing worker, of the two that poll. */
  const sentApart = async () => {
    const sent = await eventually(
      async () => {
        const handle = await start("work");
        const [[, queue] = []] = await eventually(() => scheduled(handle), (found) => found.length > 0);
        return queue === apart ? handle : undefined;
      },
      (handle) => handle !== undefined,
    );
    if (sent === undefined) throw new Error("none was sent apart");
    return sent;
  };
  const first = await sentApart();
  const started = 2; // of temporal.api.enums.v1.PendingActivityState
  await eventually(
    async () => Number((await first.describe()).raw.pendingActivities?.[0]?.state),
    (state) => state === started,
  );
  const second = await sentApart();
  await failing.kill();
  answer();
  for (const handle of [first, second]) {
    await handle.result();
    expect((await scheduled(handle)).at(-1)).toEqual(["2", main]);
  }
}, 90_000);

test("an attempt that failed is tried again where somebody polls by now", async () => {
  const { schema, deploy, calls, start } = service(
    (_, response, number) => reply(response, number === 1 ? 503 : 200, number),
    1,
  );
  const limited = { first: { max_concurrent: 1, retry: { initial_interval_seconds: 3 } } };
  await deploy({ workflows: { work: ["first"] }, options: { activities: limited } });
  const handle = await start("work");
  await eventually(calls, (paths) => paths.length === 1);
  await deploy({ workflows: { work: ["first"] }, options: {} });
  expect(await handle.result()).toBe(2);
  expect(await scheduled(handle)).toEqual([["2", `${schema}-tasks:first`], ["2", `${schema}-tasks`]]);
}, 60_000);

test("what waits long for its turn keeps to the limit, and can be cancelled", async () => {
  const { respond, answer } = onTold();
  const { schema, deploy, calls, start } = service(respond, 1);
  const apart = `${schema}-tasks:slow`;
  await deploy({ workflows: { limited: ["slow"] }, options: { activities: { slow: { max_concurrent: 1 } } } });
  const first = await start("limited");
  await eventually(calls, (paths) => paths.length === 1);
  const [second, third] = [await start("limited"), await start("limited")];
  for (const handle of [second, third]) {
    await eventually(() => scheduled(handle), (found) => found.length > 1);
    expect(new Set((await scheduled(handle)).map((one) => one.join()))).toEqual(new Set([`2,${apart}`]));
  }
  await third.cancel();
  await expect(third.result()).rejects.toThrow(/cancelled/);
  expect(await calls()).toHaveLength(1);
  answer();
  await Promise.all([first.result(), second.result()]);
  expect(await calls()).toHaveLength(2);
}, 60_000);

test("a running workflow keeps to a limit that comes with a later revision", async () => {
  const { respond, answer } = onTold();
  const { schema, deploy, calls, start } = service(respond);
  const workflows = { work: ["slow", "second"] };
  await deploy({ workflows, options: {} });
  const handle = await start("work");
  await eventually(calls, (paths) => count(paths, "/slow") === 1);
  await deploy({ workflows, options: { activities: { second: { max_concurrent: 1 } } } });
  answer();
  await handle.result();
  expect((await scheduled(handle)).map(([, queue]) => queue)).toEqual([`${schema}-tasks`, `${schema}-tasks:second`]);
}, 60_000);

test("own code needs to know nothing of it; what it says itself of queue and waiting holds", async () => {
  const schema = uniqueSchema();
  const codeRoot = fixture.codeRoot({
    "workflows.ts": `
      import { type ActivityOptions, CancellationScope, proxyActivities, sleep } from "@temporalio/workflow";
      const rareBy = (options: ActivityOptions) =>
        proxyActivities<{ rare(ms: number): Promise<string> }>({ startToCloseTimeout: 60_000, ...options }).rare;
      export async function work() {
        const held = rareBy({})(9_000);
        await sleep(2_000); // it runs by now
        const impatient = await rareBy({ scheduleToStartTimeout: 500 })(0).catch((error) => error.cause.timeoutType);
        const scope = new CancellationScope();
        const cancelled = scope.run(() => rareBy({})(0)).catch((error) => error.cause.name);
        await sleep(4_000); // longer than it waits at first
        scope.cancel();
        return [impatient, await cancelled, await rareBy({ taskQueue: "${schema}-own" })(0), await held];
      }
    `,
    "activities.ts": `
      export const rare = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms, "done"));
    `,
    "manifest.json": {
      service_schema: schema,
      service_name: "Own code",
      activities_path: "./activities.ts",
      workflows: [
        { name: "work", task_queue: `${schema}-tasks`, workflows_path: "./workflows.ts", activities: ["rare"] },
        { name: "other", task_queue: `${schema}-own`, workflows_path: "./service/workflows.ts", activities: ["rare"] },
      ],
      options: { activities: { rare: { max_concurrent: 1 } } },
    },
  });
  const worker = fixture.worker(codeRoot, { OSP_LIMITED_WAIT_SECONDS: "3" });
  onTestFinished(() => worker.kill());
  await worker.event("worker.ready");
  const handle = await fixture.client.workflow.start("work", {
    taskQueue: `${schema}-tasks`,
    workflowId: uniqueSchema(),
  });
  expect(await handle.result()).toEqual(["SCHEDULE_TO_START", "CancelledFailure", "done", "done"]);
  const apart = `${schema}-tasks:rare`;
  expect(await scheduled(handle)).toEqual([
    ["1", apart],
    ["2", apart],
    ["3", apart],
    ["3", apart],
    ["5", `${schema}-own`],
  ]);
}, 60_000);
