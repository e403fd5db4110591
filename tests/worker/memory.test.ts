import { cacheDirectory } from "../../host/cache-directory.ts";
import { nodeProcessSettings } from "../../host/node-process-settings.ts";
import { once } from "node:events";
import { afterAll, beforeAll, expect, onTestFinished, test } from "vitest";
import { reply, startActivityServer } from "./support/activity-server.ts";
import { manifestOf } from "./support/manifests.ts";
import { createMemoryCgroup } from "./support/memory-cgroup.ts";
import { type ServiceFixture, startServiceFixture, uniqueSchema } from "./support/service-fixture.ts";

let fixture: ServiceFixture;
beforeAll(async () => {
  fixture = await startServiceFixture();
}, 60_000);
afterAll(() => fixture.stop(), 60_000);

const PAYLOAD = "x".repeat(200 * 1024);

test.for([
  { limitMb: 256, workflows: 24, activities: 4 },
  { limitMb: 512, workflows: 40, activities: 20 },
])(
  "in a container of $limitMb MB payloads of 200 KB do not end the worker",
  { timeout: 300_000 },
  async (sketch, { skip }) => {
    const { limitMb, workflows, activities } = sketch;
    const schema = uniqueSchema();
    const container = createMemoryCgroup(schema, limitMb);
    if (container === undefined) {
      return skip("no memory cgroup can be made here: that takes root and a cgroup for writing");
    }
    const server = await startActivityServer((_, response) => reply(response, 200, PAYLOAD));
    onTestFinished(() => server.close());
    const manifest = manifestOf({
      schema,
      workflows: { bill: ["charge", "book"] },
      options: { activity_endpoint: server.url },
    });
    // As a platform starts it. Nothing in its environment names the limit: the worker asks the kernel.
    const settings = nodeProcessSettings({ OSP_CACHE_DIR: cacheDirectory(process.env) });
    const worker = fixture.worker(fixture.codeRoot({ "manifest.json": manifest }), settings);
    container.add(worker.child.pid ?? 0);
    onTestFinished(async () => {
      await worker.kill();
      await container.remove();
    });
    expect(await worker.event("worker.capacity")).toMatchObject({ memory_mb: limitMb, activities });
    await worker.event("worker.ready");

    const ended = once(worker.child, "exit").then(() => Promise.reject(new Error("the worker was killed")));
    ended.catch(() => {}); // at the end it is
    const results = await Promise.race([
      ended,
      Promise.all(
        Array.from({ length: workflows }, (_, number) =>
          fixture.client.workflow.execute("bill", {
            taskQueue: `${schema}-tasks`,
            workflowId: `${schema}-${number}`,
            args: [PAYLOAD],
          })),
      ),
    ]);

    expect(new Set(results)).toEqual(new Set([PAYLOAD]));
    expect(worker.child.signalCode).toBeNull();
    expect(container.peakMb()).toBeLessThan(limitMb);
  },
);
