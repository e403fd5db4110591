import { rmSync } from "node:fs";
import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { type FakeRailway, startFakeRailway } from "../../local/railway/fake-railway.ts";
import { troubles } from "../../local/railway/faults.ts";
import { writeStubCli } from "../../local/railway/stub-cli.ts";
import { useDatabase } from "../support/database.ts";
import { createMachine } from "../support/deployer.ts";
import { createTestHandler, ring } from "../support/edge-function.ts";
import { createRailwayMachine, onRailway, type RailwayMachine } from "../support/railway/deployers.ts";
import { clearServices, eventually, insertService, registryOf } from "../support/services.ts";
import { startTemporalServer, type TemporalServer } from "../support/temporal-server.ts";

const database = useDatabase();
const handler = createTestHandler(database);
const often = { OSP_PLATFORM_RECONCILE_SECONDS: "0.4" };
beforeEach(() => clearServices(database));

async function request(schema: string): Promise<void> {
  await insertService(database, schema);
  await handler(ring());
}
/** The newest row once it satisfies; what is requested meanwhile is enqueued. */
const newest = (schema: string, revision: number, status: string) =>
  eventually(async () => {
    await handler(ring());
    return (await registryOf(database, schema)).at(-1);
  }, (row) => row?.revision === revision && row.deployment_status === status);
const orphans = () => database.rows(`select platform, service_schema from osp_metadata.orphans order by 2`);
/** As a restore of another backup leaves it: nobody recorded that the service went. */
const forget = (schema: string) =>
  database.rows(
    `begin; set local session_replication_role = replica; delete from osp.services where service_schema = '${schema}';
     delete from osp_metadata.worker_registry where service_schema = '${schema}';
     delete from osp_metadata.service_intents where service_schema = '${schema}'; commit`,
  );

describe("on platform local", () => {
  let temporal: TemporalServer;
  let machine: ReturnType<typeof createMachine>;
  beforeEach(async () => {
    temporal = await startTemporalServer();
    machine = createMachine(database, () => temporal.address);
  });
  afterEach(async () => {
    await machine.clear();
    await temporal.stop();
  });

  test("a worker that is gone with all that it ran from is deployed again; one that only died is started again", async () => {
    const deployer = machine.start(often);
    await request("erased");
    await newest("erased", 1, "deployed");
    const [first] = await machine.workers();
    process.kill(first ?? 0, "SIGKILL");
    await eventually(() => machine.workers(), (pids) => pids.length === 1 && pids[0] !== first);

    rmSync(join(machine.stateDirectory, "workers", "erased"), { recursive: true });
    for (const pid of await machine.workers()) process.kill(pid, "SIGKILL");
    expect(await newest("erased", 2, "deployed")).toMatchObject({ source: "reconcile" });
    expect(await registryOf(database, "erased")).toMatchObject([{
      deployment_status: "stopped",
      error_code: "service_lost",
    }, {}]);
    expect(deployer.output()).toContain(`"event":"platform.service_lost"`);
    expect(await machine.workers()).toHaveLength(1);
  });

  test("a worker of no row is reported, kept running and removed by a recorded delete alone", async () => {
    const deployer = machine.start(often);
    await request("forgotten");
    await newest("forgotten", 1, "deployed");
    const [worker] = await machine.workers();
    await forget("forgotten");
    await eventually(orphans, (rows) => rows.length === 1);
    expect(await orphans()).toEqual([{ platform: "local", service_schema: "forgotten" }]);

    // Also by the deployer that comes next, and also where it has no record any more.
    await deployer.kill();
    rmSync(join(machine.stateDirectory, "workers", "forgotten", "1.json"));
    const next = machine.start(often);
    await next.event("supervision.gained");
    await eventually(
      () =>
        database.rows<{ is_seen: boolean }>(
          `select last_seen_at > first_seen_at + interval '2 seconds' as is_seen from osp_metadata.orphans`,
        ),
      ([row]) => row?.is_seen === true,
    );
    expect(await machine.workers()).toEqual([worker]);

    await database.rows(`select osp.remove_orphan('forgotten')`);
    await newest("forgotten", 1, "stopped");
    expect(await machine.workers()).toEqual([]);
    await eventually(orphans, (rows) => rows.length === 0);
  });
});

describe("on platform railway", () => {
  let fake: FakeRailway;
  let machine: RailwayMachine;
  let directory: string;
  beforeEach(async () => {
    fake = await startFakeRailway();
    directory = mkdtempSync(join(tmpdir(), "osp-test-cli-"));
    machine = createRailwayMachine(database, writeStubCli(directory, process.env), fake);
  });
  afterEach(async () => {
    await machine.clear();
    await fake.stop();
    rmSync(directory, { recursive: true, force: true });
    expect(fake.journal.violations).toEqual([]);
  });
  const marks = async (schema: string) => {
    const [row] = await database.rows<{ instance: string }>(
      `select instance from osp_metadata.platforms where name = 'railway'`,
    );
    return { OSP_INSTANCE: row?.instance ?? "", OSP_SERVICE: schema };
  };
  const onlyRunning = (schema: string) => {
    const { services, running } = onRailway(fake, schema);
    return { services: services.length, running: running.length };
  };

  test("what somebody deleted or stopped in the dashboard is deployed again, by one of the deployers", async () => {
    machine.start(often);
    machine.start(often);
    for (const schema of ["deleted", "removed", "kept"]) await request(schema);
    for (const schema of ["deleted", "removed", "kept"]) await newest(schema, 1, "deployed");
    fake.operator.removeService(onRailway(fake, "deleted").services[0]?.id ?? "");
    fake.operator.remove(onRailway(fake, "removed").running[0]?.id ?? "");
    for (const schema of ["deleted", "removed"]) {
      await newest(schema, 2, "deployed");
      expect(onlyRunning(schema)).toEqual({ services: 1, running: 1 });
    }
    expect(await registryOf(database, "kept")).toHaveLength(1);
  }, 120_000);

  test("a listing that fails is no listing: nothing follows from it, and it is told once", async () => {
    const deployer = machine.start(often);
    await request("steady");
    await newest("steady", 1, "deployed");
    fake.faults.add({ on: "environment", ...troubles.serverError(), times: 1000 });
    await deployer.event("platform_reconcile.failing");
    const turns = async () =>
      (await database.rows<{ at: string }>(
        `select reconciled_at::text as at from osp_metadata.platforms where name = 'railway'`,
      ))[0]?.at;
    for (let turn = 0; turn < 3; turn++) {
      const last = await turns();
      await eventually(turns, (at) => at !== last);
    }
    expect(await registryOf(database, "steady")).toMatchObject([{ revision: 1, deployment_status: "deployed" }]);
    expect(deployer.output().split(`"event":"platform_reconcile.failing"`)).toHaveLength(2);
  }, 90_000);

  test(
    "what has our marker and was deleted by its row goes; what nobody recorded is reported, what is another's not seen",
    async () => {
      machine.start(often);
      await request("gone");
      await newest("gone", 1, "deployed");
      await database.rows(`delete from osp.services`);
      await newest("gone", 2, "stopped");
      fake.operator.createService("gone", await marks("gone"));
      fake.operator.createService("unknown", await marks("unknown"));
      fake.operator.createService("another", {
        OSP_INSTANCE: "00000000-0000-4000-8000-000000000000",
        OSP_SERVICE: "another",
      });
      await newest("gone", 3, "stopped");
      expect(onRailway(fake, "gone").services).toEqual([]);
      await eventually(orphans, (rows) => rows.length > 0);
      expect(await orphans()).toEqual([{ platform: "railway", service_schema: "unknown" }]);
      expect([onRailway(fake, "unknown"), onRailway(fake, "another")].map(({ services }) => services.length)).toEqual([
        1,
        1,
      ]);
    },
    90_000,
  );
});
