import { afterAll, beforeAll, expect, test } from "vitest";
import { useDatabase } from "../support/database.ts";
import { createMachine, type TestDeployer } from "../support/deployer.ts";
import { createTestHandler, ring } from "../support/edge-function.ts";
import { eventually, insertService, registryOf } from "../support/services.ts";
import { startTemporalServer, type TemporalServer } from "../support/temporal-server.ts";

const database = useDatabase();
const handler = createTestHandler(database);
const machine = createMachine(database, () => temporal.address);
let temporal: TemporalServer;
let deployer: TestDeployer;
beforeAll(async () => {
  temporal = await startTemporalServer();
  deployer = machine.start();
});
afterAll(async () => {
  await machine.clear();
  await temporal.stop();
});

async function newestRow(schema: string) {
  const row = (await registryOf(database, schema)).at(-1);
  if (row === undefined) throw new Error(`no row of ${schema}`);
  return row;
}

async function settled(schema: string) {
  await handler(ring());
  return await eventually(() => newestRow(schema), (row) => !["pending", "deploying"].includes(row.deployment_status));
}

test("a row becomes a worker that Temporal shows polling, and everything is recorded", async () => {
  await insertService(database, "first_service");
  expect(await settled("first_service")).toMatchObject({
    deployment_status: "deployed",
    deployed_at: expect.any(Date),
    last_health_check: expect.any(Date),
    worker_version: expect.stringMatching(/^\d+\.\d+\.\d+$/),
    retry_count: 0,
    platform: "local",
    error_message: null,
    lease_token: null,
    logs: expect.stringMatching(/enqueued[^]*claimed by[^]*deploying on local[^]*deployed/),
  });
  expect(await database.rows(`select attempt, outcome, step from osp_metadata.deployment_attempts`)).toEqual([{
    attempt: 1,
    outcome: "deployed",
    step: "readiness",
  }]);
  expect(await database.rows(`select state, running_revision from osp_metadata.worker_status`)).toEqual([{
    state: "running",
    running_revision: 1,
  }]);
  expect(await machine.workers()).toHaveLength(1);
});

test("a new revision is ready before the old one is drained", async () => {
  await insertService(database, "edited");
  await settled("edited");
  await database.rows(`update osp.services set service_name = 'Edited' where service_schema = 'edited'`);
  expect(await settled("edited")).toMatchObject({ revision: 2, deployment_status: "deployed" });
  expect((await registryOf(database, "edited"))[0]).toMatchObject({
    deployment_status: "stopped",
    logs: expect.stringContaining("replaced by revision 2"),
  });
  const timeOf = (event: string) =>
    machine.workerLog("edited", 1).split("\n").filter((line) => line.includes(`"${event}"`)).map((line) =>
      JSON.parse(line).time
    )[0];
  await eventually(() => Promise.resolve(timeOf("worker.exit")), (time) => time !== undefined);
  // The deployer's own word: the worker may log that it is ready a moment after the deployer has seen it.
  const [newerRuns] = /^\S+(?= its worker runs)/m.exec((await newestRow("edited")).logs) ?? [];
  expect(Date.parse(newerRuns ?? "")).toBeLessThanOrEqual(Date.parse(timeOf("worker.draining")));
});

test("disable stops the worker, enable starts it, delete removes it", async () => {
  await insertService(database, "switched");
  await settled("switched");
  const running = (await machine.workers()).length;
  await database.rows(`update osp.services set enabled = false where service_schema = 'switched'`);
  expect(await settled("switched")).toMatchObject({ revision: 2, deployment_status: "stopped", source: "disable" });
  expect(await machine.workers()).toHaveLength(running - 1);
  await database.rows(`update osp.services set enabled = true where service_schema = 'switched'`);
  expect(await settled("switched")).toMatchObject({ revision: 3, deployment_status: "deployed", source: "enable" });
  await database.rows(`delete from osp.services where service_schema = 'switched'`);
  expect(await settled("switched")).toMatchObject({ revision: 4, deployment_status: "stopped", source: "delete" });
  expect(await machine.workers()).toHaveLength(running - 1);
  expect((await registryOf(database, "switched")).map((row) => row.deployment_status)).toEqual([
    "stopped",
    "stopped",
    "stopped",
    "stopped",
  ]);
});

test("a revision that fails, whether refused or not ready, leaves the older one serving", async () => {
  await insertService(database, "careful");
  await settled("careful");
  const serving = await machine.workers();
  const expectOlderServes = async (revision: number, error_code: unknown) => {
    expect(await settled("careful")).toMatchObject({ revision, deployment_status: "failed", error_code });
    expect((await registryOf(database, "careful"))[0]).toMatchObject({
      deployment_status: "deployed",
      stop_requested_at: null,
    });
    expect(await machine.workers()).toEqual(serving);
    expect(
      await database.rows(
        `select state, wanted_revision, running_revision from osp_metadata.worker_status where service_schema = 'careful'`,
      ),
    ).toEqual([{ state: "failed", wanted_revision: revision, running_revision: 1 }]);
  };
  await database.rows(`update osp.services set options = '{"colour": "red"}' where service_schema = 'careful'`);
  await expectOlderServes(2, "spec_invalid");

  await database.rows(
    `update osp.services set service_name = 'Doomed', options = '{}' where service_schema = 'careful'`,
  );
  await handler(ring());
  // Every worker of the new revision dies before it is ready.
  await eventually(async () => {
    for (const pid of (await machine.workers()).filter((one) => !serving.includes(one))) process.kill(pid, "SIGKILL");
    return await newestRow("careful");
  }, (row) => row.deployment_status === "failed");
  // Killed so early that nobody had seen it run, or later.
  await expectOlderServes(3, expect.stringMatching(/^worker_(exited|not_started)$/));
});

test("rolled back, the earlier spec runs again as a revision of its own", async () => {
  await insertService(database, "rolled_back", { name: "Good" });
  await settled("rolled_back");
  await database.rows(`update osp.services set service_name = 'Bad' where service_schema = 'rolled_back'`);
  await settled("rolled_back");
  const [asked] = await database.rows<{ deployment_id: string }>(`select * from osp.rollback('rolled_back', 1)`);
  expect(await settled("rolled_back")).toMatchObject({
    id: asked?.deployment_id,
    revision: 3,
    source: "rollback",
    deployment_status: "deployed",
    manifest: { revision: 3, service_name: "Good" },
  });
  await database.rows(`delete from osp.services where service_schema = 'rolled_back'`);
  await settled("rolled_back");
  await database.rows(`select osp.rollback('rolled_back', 2)`);
  expect(await settled("rolled_back")).toMatchObject({
    revision: 5,
    deployment_status: "deployed",
    manifest: { service_name: "Bad" },
  });
  expect(
    await database.rows(
      `select revision, source, rolled_back_to, waited + deploying_took = total_took as adds_up
      from osp_metadata.deployment_history where service_schema = 'rolled_back' order by revision desc limit 1`,
    ),
  ).toEqual([{ revision: 5, source: "rollback", rolled_back_to: 2, adds_up: true }]);
});

test("a worker that dies is started again", async () => {
  await insertService(database, "mortal");
  const before = await machine.workers();
  await settled("mortal");
  const [victim] = (await machine.workers()).filter((pid) => !before.includes(pid));
  process.kill(victim ?? 0, "SIGKILL");
  const after = await eventually(
    () => machine.workers(),
    (pids) => pids.length === before.length + 1 && !pids.includes(victim ?? 0),
  );
  expect(after).toHaveLength(before.length + 1);
});

test("a manifest that the worker refuses fails at once, with the worker's own reasons", async () => {
  await insertService(database, "unusable");
  await handler(ring());
  await database.rows(`delete from osp_metadata.worker_registry where service_schema = 'unusable'`);
  const manifest = {
    manifest_version: 1,
    service_schema: "unusable",
    service_name: "X",
    revision: 9,
    activities_path: "./service/missing-activities.js",
    workflows: [{ name: "w", task_queue: "q", workflows_path: "./service/missing-workflows.js", activities: ["a"] }],
    options: { activity_timeout_seconds: 60 },
  };
  const { canonicalJson, sha256Hex } = await import("../../supabase/functions/_shared/canonical-json.ts");
  await database.rows(
    `insert into osp_metadata.worker_registry (service_schema, manifest_path, revision, source, manifest, manifest_sha256) values ('unusable', 'manifests/unusable.json', 9, 'insert', $1, $2)`,
    [JSON.stringify(manifest), await sha256Hex(canonicalJson(manifest))],
  );
  const row = await eventually(() => newestRow("unusable"), ({ deployment_status }) => deployment_status === "failed");
  expect(row).toMatchObject({ error_code: "worker_unusable", retry_count: 0 });
  expect(row.error_message).toMatch(/missing-activities\.js[^]*missing-workflows\.js/);
});

test("a manifest that was changed by hand is not deployed", async () => {
  await database.rows(
    `insert into osp_metadata.worker_registry (service_schema, manifest_path, revision, source, manifest, manifest_sha256) values ('forged', 'manifests/forged.json', 1, 'insert', '{}', repeat('0', 64))`,
  );
  expect(await eventually(() => newestRow("forged"), ({ deployment_status }) => deployment_status === "failed"))
    .toMatchObject({ error_code: "manifest_mismatch" });
});

test("connections that are cut change nothing: the next row is deployed", async () => {
  await database.rows(
    `select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and usename = 'osp_test_deployer'`,
  );
  await insertService(database, "after_the_cut");
  expect(await settled("after_the_cut")).toMatchObject({ deployment_status: "deployed" });
  expect(deployer.process.exitCode).toBeNull();
});
