import type { WorkflowExecutionStatusName, WorkflowHandle } from "@temporalio/client";
import { allExamples } from "../../../local/examples.ts";
import { buildManifest } from "../../../supabase/functions/_shared/build-manifest.ts";
import type { Manifest } from "../../../supabase/functions/_shared/manifest.ts";
import { type ActivityServer, reply, type Responder, startActivityServer } from "./activity-server.ts";
import { manifestOf } from "./manifests.ts";
import { type ServiceFixture, uniqueSchema } from "./service-fixture.ts";

/** One run of a workflow without code of its own, as services have them: what it does must stay replayable for ever. */
export interface Scenario {
  /** File name of its history. */
  name: string;
  workflow: string;
  /** What runs in it, in order. */
  activities: string[];
  input: unknown;
  /** What Temporal says of it at the end. */
  ends: WorkflowExecutionStatusName;
  /** What the worker runs from; `endpoint` serves all services. */
  manifest(endpoint: string): Promise<unknown>;
  /** Further files of the code root. */
  files?: Record<string, string>;
  respond: Responder;
  /** Left out: it runs to its end, well or not. */
  act?(handle: WorkflowHandle, server: ActivityServer): Promise<unknown>;
}

/** An activity that answers with all activities so far, and what the workflow was started with. */
const step: Responder = ({ body: { activity, input } }, response) => {
  const { steps, input: first } = Object(input);
  reply(
    response,
    200,
    Array.isArray(steps) ? { steps: [...steps, activity], input: first } : { steps: [activity], input },
  );
};

/** Every workflow of every example. */
export function exampleScenarios(): Scenario[] {
  return allExamples().flatMap(({ service, inputs }) =>
    service.workflows.map((workflow): Scenario => ({
      name: `${service.service_schema}.${workflow.name}`,
      workflow: workflow.name,
      activities: workflow.activities,
      ends: "COMPLETED",
      input: inputs[workflow.name],
      manifest: async (activityEndpoint) => (await buildManifest(service, 1, { activityEndpoint })).manifest,
      respond: step,
    }))
  );
}

/** What can happen to a run. */
export function troubleScenarios(): Scenario[] {
  return [
    scenario("retried", {
      respond: (call, response, number) => number === 1 ? reply(response, 503, {}) : step(call, response, number),
    }),
    scenario("refused", {
      ends: "FAILED",
      respond: (_, response) => reply(response, 404, { message: "no such customer" }),
    }),
    scenario("attempts_used_up", {
      ends: "FAILED",
      options: { activity_max_attempts: 2 },
      respond: (_, response) => reply(response, 500, {}),
    }),
    scenario("unknown_workflow", { ends: "FAILED", workflow: "procesBilling", respond: step }),
    scenario("cancelled", {
      ends: "CANCELLED",
      respond: () => {},
      act: async (handle, server) => {
        await server.call(() => true);
        await handle.cancel();
        await handle.result().catch(() => {});
      },
    }),
    // Open: these are what a new worker finds when it takes over.
    scenario("open_at_first", {
      ends: "RUNNING",
      respond: () => {},
      act: (_, server) => server.call(({ body }) => body["activity"] === "one"),
    }),
    scenario("open_at_second", {
      ends: "RUNNING",
      respond: (call, response, number) => call.body["activity"] === "one" ? step(call, response, number) : undefined,
      act: (_, server) => server.call(({ body }) => body["activity"] === "two"),
    }),
    {
      ...scenario("own_options", { respond: step }),
      manifest: (endpoint) => {
        const own = {
          endpoint: `${endpoint}?own`,
          timeout_seconds: 7,
          max_attempts: 3,
          retry: { backoff_coefficient: 1.5 },
        };
        return Promise.resolve(manifestOf(sketch(endpoint, { activities: { two: own } })));
      },
    },
    {
      ...scenario("own_activities", { respond: () => {} }),
      manifest: (endpoint) =>
        Promise.resolve(manifestOf({ ...sketch(endpoint, {}), activitiesPath: "activities.mjs" })),
      files: { "activities.mjs": "export const one = async (n) => [n, 1];\nexport const two = async (n) => [n, 2];\n" },
    },
  ];
}

function scenario(
  name: string,
  { options = {}, ...rest }: { options?: Partial<Manifest["options"]> } & Partial<Scenario> & Pick<Scenario, "respond">,
): Scenario {
  return {
    name,
    workflow: "bill",
    activities: ["one", "two"],
    ends: "COMPLETED",
    input: { customer: 7 },
    manifest: (endpoint) => Promise.resolve(manifestOf(sketch(endpoint, options))),
    ...rest,
  };
}

function sketch(endpoint: string, options: Partial<Manifest["options"]>) {
  return {
    schema: "recorded_service",
    workflows: { bill: ["one", "two"] },
    options: { activity_endpoint: endpoint, ...options },
  };
}

/** Runs a scenario on a real server and worker; what its workflow came to, and its history, open or closed. */
export async function runScenario(fixture: ServiceFixture, { manifest, files = {}, ...run }: Scenario) {
  const server = await startActivityServer(run.respond);
  const built = Object(await manifest(`${server.url}/{activity}`));
  const worker = fixture.worker(fixture.codeRoot({ ...files, "manifest.json": built }));
  try {
    await worker.event("worker.ready");
    const handle = await fixture.client.workflow.start(run.workflow, {
      taskQueue: `${built.service_schema}-tasks`,
      workflowId: uniqueSchema(),
      args: [run.input],
    });
    if (run.act === undefined) await handle.result().catch(() => {});
    else await run.act(handle, server);
    const history = await handle.fetchHistory();
    const { status } = await handle.describe();
    const result = status.name === "COMPLETED" ? await handle.result() as unknown : undefined;
    if (status.name === "RUNNING") await handle.terminate();
    return { status: status.name, result, history, calls: server.calls };
  } finally {
    await worker.kill();
    await server.close();
  }
}
