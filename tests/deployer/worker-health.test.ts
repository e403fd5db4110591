import { expect, onTestFinished, test } from "vitest";
import { openTemporal } from "../../deployer/readiness/temporal-service.ts";
import { listLivingWorkers } from "../../deployer/readiness/worker-heartbeats.ts";
import { useDatabase } from "../support/database.ts";
import { createMachine } from "../support/deployer.ts";
import { createTestHandler, ring } from "../support/edge-function.ts";
import { eventually, insertService, registryOf } from "../support/services.ts";
import { startTemporalServer } from "../support/temporal-server.ts";

const database = useDatabase();
const handler = createTestHandler(database);
const never = new AbortController().signal;

/** A service whose worker runs, on a Temporal of its own. */
async function deployed(schema: string, temporalArguments: string[] = []) {
  const temporal = await startTemporalServer(undefined, temporalArguments);
  const machine = createMachine(database, () => temporal.address);
  const asked = openTemporal({ TEMPORAL_ADDRESS: temporal.address });
  onTestFinished(async () => {
    await asked.close();
    await machine.clear();
    await temporal.stop();
    await database.rows(`delete from osp.services`);
    await handler(ring());
    await database.rows(`delete from osp_metadata.worker_registry`);
  });
  const deployer = machine.start({ OSP_HEALTH_SECONDS: "1" });
  await insertService(database, schema);
  await handler(ring());
  const [row] = await eventually(
    () => registryOf(database, schema),
    ([found]) => found?.deployment_status === "deployed",
  );
  const [pid] = await machine.workers();
  if (row === undefined || pid === undefined) throw new Error("nothing runs");
  return { deployer, temporal: asked, pid, row };
}

const seenSince = async (schema: string, time: string) =>
  (await database.rows<{ is_later: boolean }>(
    `select last_health_check > $2::timestamptz as is_later from osp_metadata.worker_status where service_schema = $1`,
    [schema, time],
  ))[0]?.is_later;
const now = async () =>
  (await database.rows<{ now: string }>(`select clock_timestamp()::text as now`))[0]?.now ?? "never";

test("a worker that lives is seen again and again; one that hangs is not, and is told of", async () => {
  const { deployer, temporal, pid } = await deployed("seen");
  const began = await now();
  await eventually(() => seenSince("seen", began), (isLater) => isLater === true);
  expect(await listLivingWorkers(temporal, never)).toMatchObject([{ serviceSchema: "seen", revision: 1 }]);

  process.kill(pid, "SIGSTOP"); // it lives, so nobody starts it again; Temporal lists it as running
  onTestFinished(() => void process.kill(pid, "SIGCONT"));
  await eventually(() => listLivingWorkers(temporal, never), (living) => living?.length === 0);
  await database.rows(`update osp_metadata.worker_registry set last_health_check = now() - interval '3 minutes'`);
  expect(await deployer.event("worker.silent")).toMatch(/"service_schema":"seen","revision":1/);
  const silent = await now();
  process.kill(pid, "SIGCONT");
  await eventually(() => seenSince("seen", silent), (isLater) => isLater === true);
  expect(deployer.output().split(`"event":"worker.silent"`)).toHaveLength(2);
});

test("where Temporal keeps no heartbeats its pollers tell", async () => {
  const { temporal } = await deployed("polling", [
    ...["--dynamic-config-value", "frontend.WorkerHeartbeatsEnabled=false"],
    ...["--dynamic-config-value", "frontend.ListWorkersEnabled=false"],
  ]);
  expect(await listLivingWorkers(temporal, never)).toBeUndefined();
  const began = await now();
  await eventually(() => seenSince("polling", began), (isLater) => isLater === true);
});

test("of two deployers one has its turn", async () => {
  const turn = async () =>
    (await database.rows<{ is_ours: boolean }>(`select osp_metadata.take_health_turn('railway', 60) as is_ours`))[0]
      ?.is_ours;
  expect(await turn()).toBe(true);
  expect(await turn()).toBe(false);
});
