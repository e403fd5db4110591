import { beforeEach, describe, expect, onTestFinished, test } from "vitest";
import { refusal, useDatabase } from "../support/database.ts";
import { createTestHandler, ring } from "../support/edge-function.ts";
import { clearServices, insertService, registryOf } from "../support/services.ts";
import { createPlatformRegistry, type Finding } from "../../deployer/platform-registry.ts";
import type { ListedService } from "../../deployer/platforms/platform.ts";
import { createRegistry } from "../../deployer/registry.ts";

const database = useDatabase();
const handler = createTestHandler(database);
const pool = database.deployerPool(4);
const deployer = createRegistry(pool, { owner: "a", platform: "local", leaseSeconds: 10, renewTimeoutMs: 5000 });
const platform = createPlatformRegistry(pool, "local");
beforeEach(async () => {
  await clearServices(database);
  await database.rows(`delete from osp_metadata.orphans`);
});

const ringBell = async () => void await handler(ring());

/** Enqueues what waits and settles it as a deployer whose platform always succeeds. */
async function settleAll(): Promise<void> {
  await ringBell();
  for (const claim of await deployer.claim(100)) {
    await deployer.settle(
      claim,
      claim.manifest === null ? { outcome: "stopped" } : {
        outcome: "deployed",
        workerVersion: "1",
        serviceId: `id-of-${claim.service_schema}`,
        platformDeploymentId: "d",
      },
    );
  }
}

async function deployed(...schemas: string[]): Promise<void> {
  for (const schema of schemas) await insertService(database, schema);
  await settleAll();
}

const listed = (schema: string, more: Partial<ListedService> = {}): ListedService => ({
  ...{ serviceSchema: schema, id: `id-of-${schema}`, isRunning: true, ...more },
});
const now = async () =>
  (await database.rows<{ now: string }>(`select clock_timestamp()::text as now`))[0]?.now ?? "never";

/** What a comparison finds, and where it has to follow, by service. */
async function compare(services: ListedService[], everySeconds = 0.001): Promise<[string, string][]> {
  const findings = await platform.reconcile({ services, listedAt: await now() }, everySeconds);
  return findings.map(({ finding, service_schema }: Finding): [string, string] => [finding, service_schema])
    .sort(([, one], [, other]) => (one < other ? -1 : 1));
}
const names = (count: number) => Array.from({ length: count }, (_, index) => `s${index}`);
const waiting = async () => (await database.rows<{ service_schema: string; wanted: string; source: string }>(
  `select service_schema, wanted, source from osp_metadata.service_intents where revision > enqueued_revision order by 1`,
));

test("a service that is gone is requested again, once", async () => {
  await deployed("kept", "gone");
  expect(await compare([listed("kept")])).toEqual([["lost", "gone"]]);
  expect(await waiting()).toEqual([{ service_schema: "gone", wanted: "run", source: "reconcile" }]);
  expect(await registryOf(database, "gone")).toMatchObject([{
    deployment_status: "stopped",
    error_code: "service_lost",
    logs: expect.stringContaining("its worker is gone from platform local: a new revision is requested"),
  }]);

  // Neither while it waits, nor while it is enqueued, nor while it is being deployed.
  expect(await compare([listed("kept")])).toEqual([]);
  await ringBell();
  expect(await compare([listed("kept")])).toEqual([]);
  const [claim] = await deployer.claim(1);
  expect(await compare([listed("kept")])).toEqual([]);
  if (claim) {
    await deployer.settle(claim, {
      outcome: "deployed",
      workerVersion: "1",
      serviceId: "id-of-gone",
      platformDeploymentId: "y",
    });
  }
  expect(await compare([listed("kept"), listed("gone")])).toEqual([]);
  expect(await registryOf(database, "gone")).toMatchObject([{ deployment_status: "stopped" }, {
    revision: 2,
    source: "reconcile",
    deployment_status: "deployed",
  }]);
});

test("a service that is listed and does not run, or runs something else, is lost as well", async () => {
  await deployed("crashed", "replaced", "right");
  const [right] = await registryOf(database, "right");
  const services = [
    listed("crashed", { isRunning: false }),
    listed("replaced", { deploymentId: "00000000-0000-4000-8000-000000000000" }),
    listed("right", { deploymentId: right?.id }),
  ];
  expect(await compare(services)).toEqual([["lost", "crashed"], ["lost", "replaced"]]);
});

test("what was deployed after the listing, is disabled, deleted, or on another platform is not lost", async () => {
  const before = await now();
  await deployed("fresh", "off", "away", "elsewhere");
  const findings = await platform.reconcile({ services: [], listedAt: before }, 1);
  expect(findings).toEqual([]);
  await database.rows(
    `update osp_metadata.worker_registry set platform = 'railway' where service_schema = 'elsewhere'`,
  );
  await database.rows(`update osp.services set enabled = false where service_schema = 'off'`);
  await database.rows(`delete from osp.services where service_schema = 'away'`);
  expect(await compare([listed("fresh")])).toEqual([]);
});

test("the newest revision failed and the one that ran is gone: it is requested again", async () => {
  await deployed("s");
  await database.rows(`update osp.services set service_name = 'Newer'`);
  await ringBell();
  const [claim] = await deployer.claim(1);
  const failure = { class: "permanent", code: "x", message: "it broke", facts: {} } as const;
  if (claim) await deployer.settle(claim, { outcome: "failed", failure });
  expect(await compare([listed("s")])).toEqual([]);
  expect(await compare([])).toEqual([["lost", "s"]]);
});

test("most of the fleet missing is not believed at once: one at a time, until what was deployed again is listed", async () => {
  await deployed(...names(10));
  expect(await compare([])).toEqual([["lost", "s0"]]);
  const [note] = await database.rows<{ reconcile_note: string }>(
    `select * from osp_metadata.platforms where name = 'local'`,
  );
  expect(note?.reconcile_note).toMatch(/10 services should run there and are not listed; 1 of them/);
  // While that one is under way nothing more; then the next, for the listing still shows nothing.
  expect(await compare([])).toEqual([]);
  await settleAll();
  expect(await compare([])).toEqual([["lost", "s0"]]);
  await settleAll();
  // It is there: the listing tells the truth.
  expect(await compare([listed("s0")])).toEqual(names(10).slice(1).map((name) => ["lost", name]));
  await settleAll();
  expect(await compare(names(10).map((name) => listed(name)))).toEqual([]);
  expect(await database.rows(`select services_listed, reconcile_note from osp_metadata.platforms where name = 'local'`))
    .toEqual([{ services_listed: 10, reconcile_note: null }]);
});

test("less than half of the fleet missing is believed, and no more than 20 are requested at once", async () => {
  await deployed(...names(60));
  const rest = names(60).slice(25).map((name) => listed(name));
  expect(await compare(rest)).toHaveLength(20);
  expect(await compare(rest)).toHaveLength(5);
});

test("what is lost again and again is requested later each time", async () => {
  await deployed("s");
  for (let times = 0; times < 3; times++) {
    expect(await compare([], 3600)).toEqual(times === 0 ? [["lost", "s"]] : []);
    await settleAll();
  }
  const passed = (hours: number) =>
    database.rows(
      `update osp_metadata.worker_registry set stopped_at = clock_timestamp() - $1 * interval '1 hour' where error_code = 'service_lost'`,
      [hours],
    );
  await passed(1.01);
  expect(await compare([], 3600)).toEqual([["lost", "s"]]);
  await settleAll();
  await passed(1.01);
  expect(await compare([], 3600)).toEqual([]);
  await passed(2.01);
  expect(await compare([], 3600)).toEqual([["lost", "s"]]);
});

test("what was stopped or deleted by a recorded wish and is there all the same is stopped again", async () => {
  await deployed("deleted", "disabled", "enabled_again");
  await database.rows(`delete from osp.services where service_schema = 'deleted'`);
  await database.rows(`update osp.services set enabled = false where service_schema <> 'deleted'`);
  expect(await compare(["deleted", "disabled"].map((name) => listed(name)))).toEqual([]); // its own stop is under way
  await settleAll();
  await database.rows(`update osp.services set enabled = true where service_schema = 'enabled_again'`);
  const services = [
    listed("deleted", { isRunning: false }),
    listed("disabled"),
    listed("enabled_again"),
  ];
  expect(await compare(services)).toEqual([["left", "deleted"], ["left", "disabled"]]);
  expect(await waiting()).toEqual([
    { service_schema: "deleted", wanted: "stop", source: "delete" },
    { service_schema: "disabled", wanted: "stop", source: "disable" },
    { service_schema: "enabled_again", wanted: "run", source: "enable" },
  ]);
  await settleAll();
  expect((await registryOf(database, "deleted")).at(-1)).toMatchObject({
    ...{ revision: 3, source: "delete", deployment_status: "stopped" },
  });
  // What is disabled stays on the platform, without running.
  expect(await compare([listed("disabled", { isRunning: false }), listed("enabled_again")])).toEqual([]);
});

test("a delete or disable whose row is lost before it was carried out is requested again, once", async () => {
  await deployed("deleted", "disabled", "wanted");
  await database.rows(`delete from osp.services where service_schema = 'deleted'`);
  await database.rows(`update osp.services set enabled = false where service_schema = 'disabled'`);
  await ringBell();
  await database.rows(`delete from osp_metadata.worker_registry`);
  const services = [listed("deleted"), listed("disabled"), listed("wanted")];
  expect(await compare(services)).toEqual([["left", "deleted"], ["left", "disabled"]]);
  expect(await compare(services)).toEqual([]); // its stop waits
  expect(await waiting()).toEqual([
    { service_schema: "deleted", wanted: "stop", source: "delete" },
    { service_schema: "disabled", wanted: "stop", source: "disable" },
  ]);
  await settleAll();
  expect(await compare([listed("disabled", { isRunning: false }), listed("wanted")])).toEqual([]);
  expect((await registryOf(database, "deleted")).at(-1)).toMatchObject({ revision: 3, deployment_status: "stopped" });
});

test("a disabled service whose row is lost after it was carried out is shown as stopped", async () => {
  await deployed("disabled");
  await database.rows(`update osp.services set enabled = false`);
  await settleAll();
  await database.rows(`delete from osp_metadata.worker_registry`);
  expect(await compare([listed("disabled", { isRunning: false })])).toEqual([]);
  expect(await waiting()).toEqual([]);
  expect(await database.rows(`select service_schema, state from osp_metadata.worker_status`)).toEqual([
    { service_schema: "disabled", state: "stopped" },
  ]);
});

test("an emptied database deletes nothing: what nobody wants is reported, once, and goes with it", async () => {
  await deployed("wanted", "unknown");
  await database.rows(
    `set session_replication_role = replica; delete from osp.services where service_schema = 'unknown'; set session_replication_role = origin`,
  );
  await database.rows(`delete from osp_metadata.worker_registry`);
  await database.rows(`delete from osp_metadata.service_intents`);
  const services = [listed("wanted"), listed("unknown")];
  expect(await compare(services)).toEqual([["orphan", "unknown"]]);
  expect(await compare(services)).toEqual([]);
  expect(await database.rows(`select platform, platform_service_id, service_schema, reason from osp_metadata.orphans`))
    .toEqual([{
      platform: "local",
      platform_service_id: "id-of-unknown",
      service_schema: "unknown",
      reason: expect.stringContaining(`To keep it, insert the row; to end it: select osp.remove_orphan('unknown')`),
    }]);
  expect(await waiting()).toEqual([]);
  expect(await compare([listed("wanted")])).toEqual([]);
  expect(await database.rows(`select from osp_metadata.orphans`)).toEqual([]);
});

test.each([
  ["a worker", true],
  ["what is left of the workers", false],
])("%s of a deployment that is lost, and whose successor failed, is reported and goes on", async (_, isRunning) => {
  const broken = { colour: "red" };
  await deployed("known", "lost");
  await database.rows(`delete from osp_metadata.worker_registry where service_schema = 'lost'`);
  await database.rows(`update osp.services set options = $1`, [JSON.stringify(broken)]);
  await settleAll();
  expect((await registryOf(database, "lost")).map((row) => row.deployment_status)).toEqual(["failed"]);
  const [known] = await registryOf(database, "known");
  const services = [
    listed("known", known === undefined ? {} : { deploymentId: known.id }),
    listed("lost", { deploymentId: "0b6c1c52-0000-4000-8000-000000000000", isRunning }),
  ];
  expect(await compare(services)).toEqual([["orphan", "lost"]]);
  expect(await database.rows(`select service_schema, reason from osp_metadata.orphans`)).toEqual([{
    service_schema: "lost",
    reason: expect.stringMatching(/revision 2, which should take their place, failed: .*osp\.redeploy\('lost'\)/),
  }]);
  expect(await waiting()).toEqual([]);
  await database.rows(`update osp.services set options = '{}'`);
  expect(await compare(services)).toEqual([]);
  expect(await database.rows(`select from osp_metadata.orphans`)).toEqual([]);
});

test("an orphan is removed by a recorded delete, and what is wanted is none", async () => {
  await deployed("wanted");
  expect(await compare([listed("wanted"), listed("unknown")])).toEqual([["orphan", "unknown"]]);
  expect(await refusal(database.rows(`select osp.remove_orphan('wanted')`))).toMatchObject({
    ...{ code: "55006", hint: "delete from osp.services where service_schema = 'wanted'" },
  });
  expect(await refusal(database.rows(`select osp.remove_orphan('nowhere')`))).toMatchObject({ code: "P0002" });
  expect(await database.rows(`select revision from osp.remove_orphan('unknown')`)).toEqual([{ revision: 1 }]);
  await ringBell();
  expect(await deployer.claim(1)).toMatchObject([{ service_schema: "unknown", source: "delete", manifest: null }]);
});

test("a worker of a deployment that has ended is a leftover, unless its service is under way", async () => {
  await deployed("s");
  const [older] = await registryOf(database, "s");
  await database.rows(`update osp.services set service_name = 'Newer'`);
  await ringBell();
  expect(await compare([listed("s", { deploymentId: older?.id })])).toEqual([]);
  await settleAll();
  const [, newer] = await registryOf(database, "s");
  expect(await compare([older, newer].map((row) => listed("s", { deploymentId: row?.id })))).toEqual([[
    "leftover",
    "s",
  ]]);
});

test("a service that runs here, and by its registry elsewhere, is reported", async () => {
  await deployed("moved");
  await database.rows(`update osp_metadata.worker_registry set platform = 'railway'`);
  expect(await compare([listed("moved")])).toEqual([["orphan", "moved"]]);
  expect(await compare([listed("moved", { isRunning: false })])).toEqual([]);
});

test("whoever edits a service is not waited for, and the edit takes the place of the loss", async () => {
  await deployed("edited", "lost");
  const editor = await database.connect();
  await editor.query("begin");
  await editor.query(`update osp.services set service_name = 'Newer' where service_schema = 'edited'`);
  expect(await compare([])).toEqual([["lost", "lost"]]);
  await editor.query("commit");
  expect(await compare([])).toEqual([]);
  expect(await waiting()).toMatchObject([{ service_schema: "edited", source: "update" }, { service_schema: "lost" }]);
});

test("a loss that two deployers see at once is requested once", async () => {
  await deployed("s");
  const at = await now();
  const first = await database.connect();
  onTestFinished(() => first.end());
  await first.query("begin");
  const { rowCount } = await first.query(`select from osp_metadata.reconcile_platform('local', '[]', $1, 0.001)`, [at]);
  expect(rowCount).toBe(1);
  const second = () => platform.reconcile({ services: [], listedAt: at }, 0.001);
  expect(await second()).toEqual([]); // what the first one has in hand is not waited for
  await first.query("commit");
  expect(await second()).toEqual([]);
  expect(await database.rows(`select revision from osp_metadata.service_intents`)).toEqual([{ revision: 2 }]);
});

test("of deployers that ask for a turn at once, one has it until the next is due; nobody while the platform is paused", async () => {
  await database.rows(`update osp_metadata.platforms set reconciled_at = null`);
  const turns = await Promise.all(Array.from({ length: 8 }, () => platform.takeTurn(3600)));
  expect(turns.filter((turn) => turn !== undefined)).toHaveLength(1);
  await database.rows(`update osp_metadata.platforms set reconciled_at = reconciled_at - interval '1 hour'`);
  await database.rows(
    `update osp_metadata.platforms set paused_at = now(), pause_reason = 'a test' where name = 'local'`,
  );
  expect(await platform.takeTurn(3600)).toBeUndefined();
  await database.rows(`update osp_metadata.platforms set paused_at = null, pause_reason = null where name = 'local'`);
  expect(await platform.takeTurn(3600)).toBeDefined();
});

describe("a platform that names its deployments", () => {
  const railwayDeployer = createRegistry(pool, {
    owner: "a",
    platform: "railway",
    leaseSeconds: 10,
    renewTimeoutMs: 5000,
  });
  const railway = createPlatformRegistry(pool, "railway");
  const found = async (services: ListedService[]) =>
    (await railway.reconcile({ services, listedAt: await now() }, 0.001)).map(({ finding, reason }) =>
      `${finding}: ${reason}`
    );
  const itself: ListedService = { serviceSchema: "s", id: "svc", isRunning: true, platformDeploymentId: "dep" };
  beforeEach(async () => {
    await insertService(database, "s");
    await ringBell();
    const [claim] = await railwayDeployer.claim(1);
    if (claim === undefined) throw new Error("nothing to claim");
    await railwayDeployer.settle(claim, {
      ...{ outcome: "deployed", workerVersion: "1", serviceId: "svc", platformDeploymentId: "dep" },
    });
  });

  test.each<[string, ListedService[], string[]]>([
    ["itself", [itself], []],
    ["itself beside one that is about to end", [{ ...itself, platformDeploymentId: "older" }, itself], []],
    ["one on its way", [{ serviceSchema: "s", id: "svc", isRunning: true }], []],
    ["another", [{ ...itself, platformDeploymentId: "other" }], [
      "lost: another deployment runs in its place on platform railway",
    ]],
    ["none", [{ ...itself, isRunning: false }], ["lost: its worker is gone from platform railway"]],
    ["itself and an empty double", [itself, { serviceSchema: "s", id: "b", isRunning: false }], [
      "lost: it is on platform railway twice",
    ]],
    ["another service", [{ ...itself, id: "b" }], ["lost: it is on platform railway twice"]],
  ])("%s runs", async (_, services, findings) => {
    expect(await found(services)).toEqual(findings);
    expect(await waiting()).toHaveLength(findings.length);
  });

  test("what was deployed without such an id counts as itself", async () => {
    await database.rows(
      `update osp_metadata.worker_registry set platform_deployment_id = null, platform_service_id = null`,
    );
    expect(await found([itself])).toEqual([]);
  });
});
