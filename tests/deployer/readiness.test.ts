import { afterAll, beforeAll, expect, onTestFinished, test } from "vitest";
import { createTemporalReadiness } from "../../deployer/readiness/temporal-readiness.ts";
import { openTemporal, type TemporalService } from "../../deployer/readiness/temporal-service.ts";
import { parseManifest } from "../../supabase/functions/_shared/manifest.ts";
import { eventually } from "../support/services.ts";
import { manifestOf } from "../worker/support/manifests.ts";
import { type ServiceFixture, startServiceFixture, uniqueSchema } from "../worker/support/service-fixture.ts";

let fixture: ServiceFixture;
let temporal: TemporalService;
beforeAll(async () => {
  fixture = await startServiceFixture();
  temporal = openTemporal({ TEMPORAL_ADDRESS: fixture.address });
}, 60_000);
afterAll(async () => {
  await temporal.close();
  await fixture.stop();
}, 60_000);

const never = new AbortController().signal;

/** A revision of a service: what the deployer knows of it, and its worker. */
function revisionOf(schema: string, revision: number) {
  const manifest = manifestOf({
    schema,
    revision,
    workflows: { bill: ["charge"] },
    options: { activity_endpoint: "http://127.0.0.1:9" },
  });
  return {
    deployment: { serviceSchema: schema, revision, manifest: parseManifest("manifest.json", manifest) },
    start: () => fixture.worker(fixture.codeRoot({ "manifest.json": manifest })),
  };
}

/** Who ran each probe workflow of a service; Temporal lists them a moment later. */
async function probesOf(schema: string): Promise<string[]> {
  const identities = [];
  for await (const { workflowId } of fixture.client.workflow.list({ query: `WorkflowType = "__osp_ping"` })) {
    if (!workflowId.startsWith(`__osp_ping/${schema}/`)) continue;
    const { events } = await fixture.client.workflow.getHandle(workflowId).fetchHistory();
    identities.push(...events?.flatMap((event) => event.workflowTaskCompletedEventAttributes?.identity ?? []) ?? []);
  }
  return identities;
}

test(
  "a revision is ready when its own worker has run a probe workflow, though an older one shares the queue",
  async () => {
    const schema = uniqueSchema();
    const [old, young] = [revisionOf(schema, 1), revisionOf(schema, 2)];
    await old.start().event("worker.ready");
    const readiness = createTemporalReadiness(temporal, 30_000);
    expect(await createTemporalReadiness(temporal, 500).wait(young.deployment, never)).toMatchObject({
      ready: false,
      reason: expect.stringContaining(`nobody of revision 2 polls ${schema}-tasks for workflow tasks`),
    });
    young.start();

    expect(await readiness.wait(young.deployment, never)).toMatchObject({ ready: true });

    const ran = await eventually(
      () => probesOf(schema),
      (identities) => identities.some((identity) => identity.startsWith(`${schema}/2@`)),
    );
    expect(ran.length).toBeLessThanOrEqual(20);
  },
  90_000,
);

test("a worker that polls and does no work is not ready, and the reason says so", async () => {
  const schema = uniqueSchema();
  const { deployment, start } = revisionOf(schema, 1);
  const worker = start();
  await worker.event("worker.ready");
  worker.child.kill("SIGSTOP"); // its poll is open: Temporal lists it, and gives it the task
  onTestFinished(() => void worker.child.kill("SIGCONT"));

  expect(await createTemporalReadiness(temporal, 5_000).wait(deployment, never)).toMatchObject({
    ready: false,
    isUnavailable: false,
    reason: expect.stringMatching(/the probe workflow on .* did not run: (nobody took|a worker took) its task/),
  });
}, 60_000);
