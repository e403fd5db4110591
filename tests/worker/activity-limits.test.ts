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
  limited_before?: string[];
}

/** A service whose revisions run one after another; each `deploy` ends the worker of the one before, as a rollout does. */
function service(respond: Responder) {
  const schema = uniqueSchema();
  let revision = 0;
  const codeRoot = fixture.codeRoot({});
  const server = startActivityServer(respond);
  onTestFinished(async () => (await server).close());
  let running: ReturnType<ServiceFixture["worker"]> | undefined;
  return {
    schema,
    async deploy({ options, limited_before, ...rest }: Revision) {
      const { url } = await server;
      const manifest = manifestOf({
        schema,
        revision: ++revision,
        options: { activity_endpoint: url, ...options },
        ...rest,
      });
      codeRoot.write("manifest.json", { ...manifest, ...(limited_before === undefined ? {} : { limited_before }) });
      const worker = fixture.worker(codeRoot);
      onTestFinished(() => worker.kill());
      const ready = { ...await worker.event("worker.capacity"), ...await worker.event("worker.ready") };
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

/** Which task queue each activity was scheduled on. */
async function scheduledOn(handle: Handle): Promise<string[]> {
  const { events } = await handle.fetchHistory();
  return (events ?? []).flatMap(({ activityTaskScheduledEventAttributes: one }) => one?.taskQueue?.name ?? []);
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
  const { schema, deploy, calls, start } = service(respond);
  await deploy({ workflows: { limited: ["slow", "last"] }, options: { activities: { slow: { max_concurrent: 1 } } } });
  const handles = await Promise.all([start("limited"), start("limited"), start("limited")]);
  await eventually(calls, (paths) => count(paths, "/slow") === 1);
  const ready = await deploy({ workflows: { limited: ["other"] }, options: {}, limited_before: ["slow"] });
  expect(ready["task_queues"]).toEqual([`${schema}-tasks`, `${schema}-tasks:slow`]);
  answer();
  for (const handle of handles) {
    await handle.result();
    expect(await scheduledOn(handle)).toEqual([`${schema}-tasks:slow`, `${schema}-tasks`]);
  }
  const later = await start("limited");
  await later.result();
  expect(await scheduledOn(later)).toEqual([`${schema}-tasks`]);
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
  expect(await scheduledOn(handle)).toEqual([`${schema}-tasks`, `${schema}-tasks:second`]);
}, 60_000);

test("own code needs to know nothing of it, and what it schedules elsewhere itself stays there", async () => {
  const schema = uniqueSchema();
  const codeRoot = fixture.codeRoot({
    "workflows.ts": `
      import { proxyActivities } from "@temporalio/workflow";
      const options = { startToCloseTimeout: 10_000 };
      const { rare } = proxyActivities<{ rare(): Promise<string> }>(options);
      const { rare: elsewhere } = proxyActivities<{ rare(): Promise<string> }>({ ...options, taskQueue: "${schema}-own" });
      export const work = async () => [await rare(), await elsewhere()];
    `,
    "activities.ts": `export const rare = async () => "done";`,
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
  const worker = fixture.worker(codeRoot);
  onTestFinished(() => worker.kill());
  await worker.event("worker.ready");
  const handle = await fixture.client.workflow.start("work", {
    taskQueue: `${schema}-tasks`,
    workflowId: uniqueSchema(),
  });
  expect(await handle.result()).toEqual(["done", "done"]);
  expect(await scheduledOn(handle)).toEqual([`${schema}-tasks:rare`, `${schema}-own`]);
}, 60_000);
