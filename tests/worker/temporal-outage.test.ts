import { Client, Connection } from "@temporalio/client";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test, vi } from "vitest";
import { cacheDirectory } from "../../host/cache-directory.ts";
import { freePort } from "../../host/free-port.ts";
import { startTemporalServer } from "../support/temporal-server.ts";
import { reply, startActivityServer } from "./support/activity-server.ts";
import { manifestOf } from "./support/manifests.ts";
import { createCodeRoot, startWorker } from "./support/worker-process.ts";

test("Temporal away for so long that the SDK complains: the same worker goes on with it when it is back", async () => {
  const directory = mkdtempSync(join(tmpdir(), "osp-test-outage-"));
  const port = await freePort();
  const kept = ["--db-filename", join(directory, "temporal.db")];
  const first = await startTemporalServer(port, kept);
  const server = await startActivityServer((_, response) => reply(response, 200, "done"));
  const codeRoot = createCodeRoot({
    "manifest.json": manifestOf({
      schema: "outage",
      workflows: { bill: ["charge"] },
      options: { activity_endpoint: server.url },
    }),
  });
  const worker = startWorker(codeRoot.path, {
    MANIFEST_PATH: "manifest.json",
    TEMPORAL_ADDRESS: first.address,
    OSP_CACHE_DIR: cacheDirectory(process.env),
    OSP_ACTIVITY_NETWORKS: "127.0.0.0/8",
  });
  onTestFinished(async () => {
    await worker.kill();
    await server.close();
    codeRoot.remove();
    rmSync(directory, { recursive: true, force: true });
  });
  await worker.event("worker.ready");

  await first.stop();
  const complaints = () => worker.lines.filter(({ event, level }) => event === "temporal.log" && level === "warn");
  await vi.waitFor(() => expect(complaints()).not.toEqual([]), { timeout: 90_000 });
  const second = await startTemporalServer(port, kept);
  onTestFinished(() => second.stop());

  const connection = await Connection.connect({ address: second.address });
  onTestFinished(() => connection.close());
  const run = new Client({ connection }).workflow.execute("bill", { taskQueue: "outage-tasks", workflowId: "after" });
  expect(await run).toBe("done");
  expect(worker.child.exitCode).toBeNull();
}, 180_000);
