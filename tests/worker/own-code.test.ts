import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, onTestFinished, test } from "vitest";
import { reply, startActivityServer } from "./support/activity-server.ts";
import { manifestOf } from "./support/manifests.ts";
import { type ServiceFixture, startServiceFixture, uniqueSchema } from "./support/service-fixture.ts";
import { OSP_WORKER_PROGRAM } from "./support/worker-process.ts";

let fixture: ServiceFixture;
beforeAll(async () => {
  fixture = await startServiceFixture();
}, 60_000);
afterAll(() => fixture.stop(), 60_000);

const BILLING_WORKFLOW = `
  import { proxyActivities } from "@temporalio/workflow";
  const { calculateCharges } = proxyActivities({ startToCloseTimeout: "20s" });
  export async function processBilling(input) { return { billed: await calculateCharges(input) }; }
`;

test("workflows and activities of the service's own run, one file per workflow", async () => {
  const schema = uniqueSchema();
  const codeRoot = fixture.codeRoot({
    "package.json": { type: "module" },
    "service/activities.js": `
      import { Context } from "@temporalio/activity";
      export async function calculateCharges(input) { return [Context.current().info.activityType, input]; }
      export default function catchAll() { return "must not be reachable"; }
    `,
    "service/workflows/billing.js": BILLING_WORKFLOW,
    "service/workflows/support.ts":
      `export async function handleTicket(input: string): Promise<string> { return "ticket " + input; }`,
    "manifest.json": {
      ...manifestOf({ schema, workflows: {}, activitiesPath: "service/activities.js" }),
      workflows: [
        {
          name: "processBilling",
          task_queue: `${schema}-tasks`,
          workflows_path: "service/workflows/billing.js",
          activities: ["calculateCharges"],
        },
        {
          name: "handleTicket",
          task_queue: `${schema}-support`,
          workflows_path: "./service/workflows/support.ts",
          activities: ["calculateCharges"],
        },
      ],
    },
  });
  const worker = fixture.worker(codeRoot);
  const ready = await worker.event("worker.ready");

  expect(ready["task_queues"]).toEqual([`${schema}-tasks`, `${schema}-support`]);
  expect(await run(`${schema}-tasks`, "processBilling", 5)).toEqual({ billed: ["calculateCharges", 5] });
  expect(await run(`${schema}-support`, "handleTicket", "a")).toBe("ticket a");
  expect(worker.otherOutput).toEqual([]);
}, 60_000);

test("CommonJS modules work, computed exports too", async () => {
  const schema = uniqueSchema();
  const codeRoot = fixture.codeRoot({
    "activities.cjs":
      `const all = { ["calculate" + "Charges"]: async (input) => input + 1 }; module.exports = { ...all };`,
    "workflows.cjs": `
      const { proxyActivities } = require("@temporalio/workflow");
      const { calculateCharges } = proxyActivities({ startToCloseTimeout: "20s" });
      module.exports = { ["process" + "Billing"]: async (input) => calculateCharges(input) };
    `,
    "manifest.json": manifestOf({
      schema,
      workflows: { processBilling: ["calculateCharges"] },
      activitiesPath: "activities.cjs",
      workflowsPath: "workflows.cjs",
    }),
  });
  await fixture.worker(codeRoot).event("worker.ready");
  expect(await run(`${schema}-tasks`, "processBilling", 5)).toBe(6);
}, 60_000);

test.each([
  { from: "its program", isProgram: true },
  { from: "its sources, where the program is of another version of the SDK,", isProgram: false },
])("a worker that starts from $from has one copy of Temporal's packages", async ({ isProgram }) => {
  const schema = uniqueSchema();
  const program = readFileSync(OSP_WORKER_PROGRAM, "utf8");
  const ofAnotherSdk = program.replace(/(?<=core-bridge\/package\.json"[^}]*version: )"[^"]+"/, `"0.0.1"`);
  expect(ofAnotherSdk).not.toBe(program);
  const codeRoot = fixture.codeRoot({
    "activities.mjs": `
      import { Context } from "@temporalio/activity";
      import { Client } from "@temporalio/client";
      import { Runtime } from "@temporalio/worker";
      import { proxyActivities } from "@temporalio/workflow";
      import { required, isPatchable } from "./required.cjs";
      export async function share() {
        const isOne = Context.current().client instanceof Client && required.client.Client === Client &&
          required.workflow.proxyActivities === proxyActivities && required.activity.Context === Context;
        return [globalThis.ospProgram !== undefined, isOne, isPatchable, Runtime.instance().options.shutdownSignals];
      }
      export function fail() { throw new Error("as asked"); }
    `,
    "required.cjs": `
      exports.required = {
        ...{ client: require("@temporalio/client"), workflow: require("@temporalio/workflow") },
        activity: require("@temporalio/activity"),
      };
      exports.required.client.patched = true; // as what instruments packages does
      exports.isPatchable = require("@temporalio/client").patched;
    `,
    "workflows.mjs": `
      import { proxyActivities } from "@temporalio/workflow";
      const { share, fail } = proxyActivities({ startToCloseTimeout: "20s", retry: { maximumAttempts: 1 } });
      export async function tell() { return [await share(), await fail().catch((error) => error.cause.stack)]; }
    `,
    "manifest.json": manifestOf({
      schema,
      workflows: { tell: ["share", "fail"] },
      activitiesPath: "activities.mjs",
      workflowsPath: "workflows.mjs",
    }),
    "program.cjs": ofAnotherSdk,
  });
  const worker = fixture.worker(
    codeRoot,
    isProgram ? {} : { OSP_WORKER_PROGRAM: join(codeRoot.path, "program.cjs") },
  );
  await worker.event("worker.ready");

  const [shared, stack] = Object(await run(`${schema}-tasks`, "tell"));
  expect(shared).toEqual([isProgram, true, true, []]);
  // What of the SDK called it is nobody's business, least of all where that lies.
  expect(stack).toMatch(/^Error: as asked\n\s+at fail \(.*activities\.mjs:\d+:\d+\)$/);
  expect(worker.otherOutput).toEqual([]);
}, 60_000);

test("the built-in workflows run activities of the service's own", async () => {
  const schema = uniqueSchema();
  const codeRoot = fixture.codeRoot({
    "activities.mjs": `export const double = async (x) => x * 2; export const increment = async (x) => x + 1;`,
    "manifest.json": manifestOf({
      schema,
      workflows: { calculate: ["double", "increment"] },
      activitiesPath: "activities.mjs",
    }),
  });
  await fixture.worker(codeRoot).event("worker.ready");
  expect(await run(`${schema}-tasks`, "calculate", 5)).toBe(11);
}, 60_000);

test("a file at a built-in path in the code root wins over the built-in module", async () => {
  const schema = uniqueSchema();
  const server = await startActivityServer((call, response) => reply(response, 200, { posted: call.body["input"] }));
  onTestFinished(() => server.close());
  const codeRoot = fixture.codeRoot({
    "service/workflows.ts": BILLING_WORKFLOW,
    "manifest.json": manifestOf({
      schema,
      workflows: { processBilling: ["calculateCharges"] },
      options: { activity_endpoint: server.url },
    }),
  });
  await fixture.worker(codeRoot).event("worker.ready");
  expect(await run(`${schema}-tasks`, "processBilling", 5)).toEqual({ billed: { posted: 5 } });
}, 60_000);

test("a second start uses the bundle again, a changed import makes a new one", async () => {
  const schema = uniqueSchema();
  const codeRoot = fixture.codeRoot({
    "greeting.js": `exports.greeting = "hello";`,
    "workflows.js": `
      const { greeting } = require("./greeting.js");
      exports.greet = async (name) => greeting + " " + name;
    `,
    "activities.js": `exports.unused = async () => {};`,
    "manifest.json": manifestOf({
      schema,
      workflows: { greet: ["unused"] },
      activitiesPath: "activities.js",
      workflowsPath: "workflows.js",
    }),
  });
  const first = fixture.worker(codeRoot);
  await first.event("worker.ready");
  first.child.kill("SIGTERM");
  await first.exit();
  codeRoot.write("greeting.js", `exports.greeting = "good day";`);

  await fixture.worker(codeRoot).event("worker.ready");

  expect(await run(`${schema}-tasks`, "greet", "Ada")).toBe("good day Ada");
}, 60_000);

async function run(taskQueue: string, name: string, ...args: unknown[]): Promise<unknown> {
  return await fixture.client.workflow.execute(name, { taskQueue, workflowId: uniqueSchema(), args });
}
