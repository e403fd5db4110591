import { afterAll, beforeAll, expect, test } from "vitest";
import { useDatabase } from "../support/database.ts";
import { createMachine } from "../support/deployer.ts";
import { createTestHandler, ring } from "../support/edge-function.ts";
import { eventually, registryOf, workflows } from "../support/services.ts";
import { startTemporalServer, type TemporalServer } from "../support/temporal-server.ts";
import { useApi } from "./api.ts";

const database = useDatabase();
const api = useApi(database);
const handler = createTestHandler(database);
const machine = createMachine(database, () => temporal.address);
let temporal: TemporalServer;
beforeAll(async () => {
  temporal = await startTemporalServer();
  machine.start();
});
afterAll(async () => {
  await machine.clear();
  await temporal.stop();
});

test("one call is a running worker, and queueWorkerBuild replaces it", async () => {
  const rings: Promise<Response>[] = [];
  const wait = { wait: true, timeoutMs: 50_000, onProgress: () => void rings.push(handler(ring())) };
  const service = { serviceSchema: "called", serviceName: "Called", workflows };
  const first = await api.client.deployWorkerForService(service, wait);
  expect(first).toMatchObject({ success: true, deployment_status: "deployed", revision: 1 });
  const [before] = await machine.workers();

  const second = await api.client.queueWorkerBuild("called", wait);
  expect(second).toMatchObject({ success: true, deployment_status: "deployed", revision: 2 });
  await Promise.all(rings);
  // The old worker drains after the new one has taken over.
  await eventually(() => machine.workers(), (workers) => workers.length === 1 && workers[0] !== before);
  expect(await registryOf(database, "called")).toMatchObject([
    { id: first.deployment_id, deployment_status: "stopped" },
    { id: second.deployment_id, deployment_status: "deployed" },
  ]);
});
