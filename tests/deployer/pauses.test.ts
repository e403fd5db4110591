import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { useDatabase } from "../support/database.ts";
import { createMachine, type TestDeployer } from "../support/deployer.ts";
import { createTestHandler, ring } from "../support/edge-function.ts";
import { type Fault, faultEnvironment } from "../support/faults.ts";
import { clearServices, eventually, insertService, registryOf } from "../support/services.ts";
import { startTemporalServer, type TemporalServer } from "../support/temporal-server.ts";

const database = useDatabase();
const handler = createTestHandler(database);
let temporal: TemporalServer;
let machine: ReturnType<typeof createMachine>;
beforeAll(async () => void (temporal = await startTemporalServer()));
afterAll(() => temporal.stop());
beforeEach(() => void (machine = createMachine(database, () => temporal.address)));
afterEach(async () => {
  await machine.clear();
  await clearServices(database);
});

async function request(schema: string): Promise<void> {
  await insertService(database, schema);
  await handler(ring());
}
const rowOf = async (schema: string) => (await registryOf(database, schema)).at(-1);
const reaches = (schema: string, status: string) =>
  eventually(() => rowOf(schema), (row) => row?.deployment_status === status);
/** Everything that a deployer may write about deployments. */
const written = () =>
  database.rows(
    `select to_jsonb(r) as row, (select jsonb_agg(to_jsonb(a) order by a.id) from osp_metadata.deployment_attempts as a where a.deployment_id = r.id) as attempts
     from osp_metadata.worker_registry as r order by r.service_schema, r.revision`,
  );

/** Started on a machine where nothing runs yet, it stops at the fault by SIGSTOP, and all of it with it. */
async function startPausing(schema: string, fault: Omit<Fault, "signal">): Promise<TestDeployer> {
  await request(schema);
  const deployer = machine.start(faultEnvironment({ ...fault, signal: "SIGSTOP" }));
  await deployer.event("fault.reached");
  return deployer;
}

/** It has found out, and stands by for the one that took over. */
async function goOn(deployer: TestDeployer): Promise<void> {
  deployer.process.kill("SIGCONT");
  await deployer.event("supervision.standby");
}

const holds = { port: "registry", call: 1 } as const;
/** In the statement that settles, and in no other: a report reads its parameter by the same function. */
const SETTLEMENT = "as is_replaced";

test.each<[string, Omit<Fault, "signal">]>([
  ["a claim", { ...holds, when: "before", match: "osp_metadata.free_slots" }],
  ["a claim that it has made", { ...holds, when: "after", match: "osp_metadata.free_slots" }],
  ["a renewal", { ...holds, when: "before", match: "lease_token = any" }],
  ["a report", { ...holds, when: "before", match: "set step = held.step" }],
  ["the last word before it starts a worker", {
    ...holds,
    when: "before",
    match: "coalesce($3, r.platform_service_id)",
  }],
  ["and the word that it may start one", { ...holds, when: "after", match: "coalesce($3, r.platform_service_id)" }],
  ["the last word before it ends the older worker", {
    ...holds,
    call: 2,
    when: "before",
    match: "coalesce($3, r.platform_service_id)",
  }],
  ["and the word that it may end the older worker", {
    ...holds,
    call: 2,
    when: "after",
    match: "coalesce($3, r.platform_service_id)",
  }],
  ["a settlement", { ...holds, when: "before", match: SETTLEMENT }],
])("a deployer that is paused past its lease at %s writes nothing afterwards", async (_, fault) => {
  const paused = await startPausing("fenced", fault);
  const other = machine.start();
  await other.event("supervision.silent_ended");
  await reaches("fenced", "deployed");
  const [before, workers] = [await written(), await machine.workers()];
  expect(workers).toHaveLength(1);

  await goOn(paused);
  // Anything that it still wanted to say has been refused by the time at which it can stop.
  expect(await paused.stop()).toBe(0);
  expect(await written()).toEqual(before);
  expect(await machine.workers()).toEqual(workers);
  const held = before.flatMap(({ attempts }) => Object(attempts)).filter(({ outcome }) => outcome === "abandoned");
  for (const { error_message } of held) expect(error_message).toContain(`:${paused.process.pid} went away`);
  expect(await other.stop()).toBe(0);
});

test("a worker that a paused deployer starts when it goes on is ended, and that of its successor stays", async () => {
  const paused = await startPausing("doubled", {
    port: "platform",
    call: 1,
    when: "before",
    match: "launch-worker.ts",
  });
  const other = machine.start({ OSP_PLATFORM_RECONCILE_SECONDS: "0.4" });
  await reaches("doubled", "deployed");
  const workers = await machine.workers();
  await goOn(paused);
  await other.event("worker.stray_ended");
  await eventually(() => machine.workers(), (pids) => pids.length === 1);
  expect(await machine.workers()).toEqual(workers);
  expect((await registryOf(database, "doubled")).map((row) => row.deployment_status)).toEqual(["deployed"]);
});

test("a worker that a paused deployer started before is taken over, or replaced by a newer revision", async () => {
  const paused = await startPausing("inherited", { ...holds, when: "before", match: SETTLEMENT });
  const running = await machine.workers();
  expect(running).toHaveLength(1); // it serves: only that is not written yet
  await database.rows(`update osp.services set service_name = 'Newer'`);
  await handler(ring());
  machine.start();
  await eventually(() => rowOf("inherited"), (row) => row?.revision === 2 && row.deployment_status === "deployed");
  await eventually(() => machine.workers(), (pids) => pids.length === 1 && pids[0] !== running[0]);
  const workers = await machine.workers();
  await goOn(paused);
  expect(await paused.stop()).toBe(0);
  expect(await machine.workers()).toEqual(workers);
  expect(await registryOf(database, "inherited")).toMatchObject([{ deployment_status: "stopped" }, {
    deployment_status: "deployed",
  }]);
});

test("a deployer that is told to stop gives its work back, and another goes on long before the lease ends", async () => {
  const away = createMachine(database, () => "127.0.0.1:9"); // no Temporal: the deployment lasts
  const patient = {
    OSP_LEASE_SECONDS: "3600",
    OSP_RENEW_SECONDS: "1",
    OSP_SHUTDOWN_SECONDS: "0",
    OSP_STATE_DIR: machine.stateDirectory,
  };
  await request("returned");
  const first = away.start(patient);
  await first.event("worker.started");
  const second = machine.start({ ...patient, TEMPORAL_ADDRESS: temporal.address });
  await second.event("supervision.standby");
  expect(await first.stop()).toBe(0);
  await reaches("returned", "deployed");
  expect(await database.rows(`select outcome from osp_metadata.deployment_attempts order by id`)).toEqual([
    { outcome: "handed_back" },
    { outcome: "deployed" },
  ]);
  await away.clear();
});

test("what a killed deployer had in hand is claimed by another within its lease of 10 s, by default", async () => {
  const preset = { OSP_LEASE_SECONDS: "", OSP_RENEW_SECONDS: "", OSP_POLL_SECONDS: "" };
  await request("bereft");
  const first = machine.start({ ...preset, TEMPORAL_ADDRESS: "127.0.0.1:9" });
  await first.event("worker.started");
  const second = machine.start(preset);
  await second.event("supervision.standby");
  const killedAt = performance.now();
  await first.kill();
  await second.event("deployment.started");
  console.log(`claimed again ${((performance.now() - killedAt) / 1000).toFixed(1)} s after the SIGKILL`);
  await reaches("bereft", "deployed");
  expect(await machine.workers()).toHaveLength(1);
});
