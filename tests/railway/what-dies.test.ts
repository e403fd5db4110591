import { afterEach, beforeEach, expect, inject, test } from "vitest";
import { type FakeRailway, startFakeRailway } from "../../local/railway/fake-railway.ts";
import { useDatabase } from "../support/database.ts";
import { createRailwayMachine, onRailway, type RailwayMachine, wrapCli } from "../support/railway/deployers.ts";
import { resetDatabase } from "../support/railway/reset.ts";
import { eventually, registryOf } from "../support/services.ts";

const database = useDatabase();
const cli = inject("railwayCli");
let fake: FakeRailway;
let machine: RailwayMachine;

beforeEach(async () => {
  await resetDatabase(database);
  fake = await startFakeRailway({ cliSchema: inject("railwaySchema") ?? undefined });
  machine = createRailwayMachine(database, cli, fake);
});

afterEach(async () => {
  await machine.clear();
  await fake.stop();
  expect(fake.journal.violations).toEqual([]);
});

const shortLease = { OSP_LEASE_SECONDS: "1", OSP_RENEW_SECONDS: "0.2" };

/** A first deployment makes about twelve calls; the run in which nobody was killed any more ends the count. */
const MOST_CALLS = 30;

test.each([
  ["and the call is never made", `if [ "$count" -eq KILL ]; then kill -9 $PPID; exit 1; fi`],
  ["and the call goes on alone", `if [ "$count" -eq KILL ]; then kill -9 $PPID; fi`],
])("a deployer killed at its n-th call of the CLI, for every n, %s", async (_, script) => {
  let killed = 0;
  for (let n = 1; n <= MOST_CALLS; n++) {
    const schema = `service_${n}`;
    const wrapped = wrapCli(cli, script.replace("KILL", String(n)));
    const deployer = machine.start({ ...shortLease, RAILWAY_CLI_PATH: wrapped.path });
    await machine.insert(schema);
    await eventually(
      async () =>
        deployer.process.signalCode !== null || (await machine.attempts(schema)).at(-1)?.outcome === "deployed",
      (isOver) => isOver,
    );
    const wasKilled = deployer.process.signalCode === "SIGKILL";
    if (wasKilled) {
      killed++;
      await machine.start(shortLease).event("deployer.started");
    }
    const row = await machine.deployed(schema);
    const { services, running, pending } = onRailway(fake, schema);
    expect({ n, services: services.length, running: running.length, pending }).toEqual({
      ...{ n, services: 1, running: 1, pending: [] },
    });
    expect(row).toMatchObject({ platform_deployment_id: running[0]?.id, platform_service_id: services[0]?.id });
    await machine.stopAll();
    wrapped.remove();
    if (!wasKilled) break;
  }
  expect(killed).toBeGreaterThan(8);
  expect(killed).toBeLessThan(MOST_CALLS);
}, 400_000);

const changes = {
  change: {
    sql: `update osp.services set service_name = 'Changed' where service_schema = $1`,
    leaves: { services: 1, running: 1 },
    status: "deployed",
  },
  disable: {
    sql: `update osp.services set enabled = false where service_schema = $1`,
    leaves: { services: 1, running: 0 },
    status: "stopped",
  },
  delete: {
    sql: `delete from osp.services where service_schema = $1`,
    leaves: { services: 0, running: 0 },
    status: "stopped",
  },
};

test.each(Object.entries(changes))(
  "killed at its n-th call of the CLI for a %s, for every n",
  async (_, { sql, leaves, status }) => {
    let killed = 0;
    for (let n = 1; n <= MOST_CALLS; n++) {
      const schema = `service_${n}`;
      const before = machine.start(shortLease);
      await machine.insert(schema);
      await machine.deployed(schema);
      await before.stop();
      const wrapped = wrapCli(cli, `if [ "$count" -eq ${n} ]; then kill -9 $PPID; fi`);
      const deployer = machine.start({ ...shortLease, RAILWAY_CLI_PATH: wrapped.path });
      await database.rows(sql, [schema]);
      await machine.ringBell();
      const hasEnded = async () =>
        (await registryOf(database, schema)).some((row) => row.revision === 2 && row.deployment_status === status);
      await eventually(async () => deployer.process.signalCode !== null || await hasEnded(), (isOver) => isOver);
      const wasKilled = deployer.process.signalCode === "SIGKILL";
      if (wasKilled) killed++;
      machine.start(shortLease);
      await eventually(hasEnded, (isOver) => isOver);
      const { services, running, pending } = onRailway(fake, schema);
      expect({ n, services: services.length, running: running.length, pending }).toEqual({ n, ...leaves, pending: [] });
      await machine.stopAll();
      wrapped.remove();
      if (!wasKilled) break;
    }
    expect(killed).toBeGreaterThan(3);
    expect(killed).toBeLessThan(MOST_CALLS);
  },
  600_000,
);

test("a hundred rows at once: each has one service and one running deployment", async () => {
  const names = Array.from({ length: 100 }, (_, index) => `service_${index}`);
  await database.rows(
    `insert into osp.services (service_schema, service_name, workflows)
     select name, 'S', '[{"name":"w","activities":["x"]}]' from unnest($1::text[]) as name`,
    [names],
  );
  await machine.ringBell();
  machine.start({ OSP_CONCURRENCY: "20", OSP_LEASE_SECONDS: "10" });
  machine.start({ OSP_CONCURRENCY: "20", OSP_LEASE_SECONDS: "10" });
  await eventually(
    () =>
      database.rows<{ count: number }>(
        `select count(*)::integer as count from osp_metadata.worker_registry where deployment_status = 'deployed'`,
      ),
    ([row]) => row?.count === names.length,
    240_000,
  );
  expect(fake.world.services.size).toBe(names.length);
  const uneven = names.filter((name) => onRailway(fake, name).running.length !== 1);
  expect(uneven).toEqual([]);
  const polls = fake.journal.requests.filter(({ operation }) => operation === "Deployments").length;
  expect(polls).toBeLessThan(names.length);
}, 300_000);

test("a deployer that lost its lease ends what its upload began, once a newer revision has the service", async () => {
  const wrapped = wrapCli(
    cli,
    `if [ "$1" = up ]; then "$cli" "$@"; status=$?; kill -STOP $PPID; sleep 1; exit $status; fi`,
  );
  const paused = machine.start({ ...shortLease, RAILWAY_CLI_PATH: wrapped.path });
  fake.plans.next("billing", Array.from({ length: 1000 }, () => "BUILDING" as const));
  await machine.insert("billing");
  await eventually(() => Promise.resolve(onRailway(fake, "billing").deployments.length), (count) => count === 1);
  const stale = onRailway(fake, "billing").deployments[0];
  await database.rows(`update osp.services set service_name = 'Newer'`);
  await machine.ringBell();
  machine.start(shortLease);
  await machine.deployed("billing", 2);
  paused.process.kill("SIGCONT");
  await paused.event("lease.lost");
  const { running } = onRailway(fake, "billing");
  expect(running).toHaveLength(1);
  expect(running[0]).not.toBe(stale);
  expect(stale?.status).toBe("REMOVED");
  wrapped.remove();
});
