import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, expect, onTestFinished, test } from "vitest";
import { startFakeRailway } from "../../local/railway/fake-railway.ts";
import { writeStubCli } from "../../local/railway/stub-cli.ts";
import { useDatabase } from "../support/database.ts";
import { createMachine } from "../support/deployer.ts";
import { createTestHandler, ring } from "../support/edge-function.ts";
import { startOwnPostgres } from "../support/own-postgres.ts";
import { createRailwayMachine, onRailway } from "../support/railway/deployers.ts";
import { clearServices, eventually, insertService, registryOf } from "../support/services.ts";
import { startTemporalServer, type TemporalServer } from "../support/temporal-server.ts";
import { startTransactionPooler } from "../support/transaction-pooler.ts";

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
  eventually(() => rowOf(schema), (row) => row?.deployment_status === status, 60_000);
const cutAll = () =>
  database.rows(
    `select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and usename = 'osp_test_deployer'`,
  );
/** A setting of deployers' new sessions; of no others. */
async function setForDeployers(setting: string): Promise<void> {
  const [row] = await database.rows<{ name: string }>(`select current_database() as name`);
  await database.rows(`alter role osp_test_deployer in database ${row?.name} set ${setting}`);
}
const timesLogged = (output: string, event: string) => output.split(`"event":"${event}"`).length - 1;
const outcomes = () =>
  database.rows<{ outcome: string | null }>(`select outcome from osp_metadata.deployment_attempts order by id`);

test("notifications are heard again after a cut connection, without the poll", async () => {
  const deployer = machine.start({ OSP_POLL_SECONDS: "600" });
  const listeners = () =>
    database.rows<{ pid: number }>(
      `select pid from pg_stat_activity where datname = current_database() and query = 'listen worker_registry'`,
    );
  const [first] = await eventually(listeners, (rows) => rows.length === 1);
  await deployer.event("supervision.gained");
  await cutAll();
  await eventually(listeners, ([row]) => row !== undefined && row.pid !== first?.pid);
  await eventually(() => Promise.resolve(deployer.output()), (text) => timesLogged(text, "supervision.gained") === 2);
  await request("heard");
  await reaches("heard", "deployed");
});

test(
  "through a pooler in transaction mode platform railway works by its poll alone, and platform local refuses",
  async () => {
    const pooler = await startTransactionPooler(database.deployerUrl);
    onTestFinished(() => pooler.close());
    const fake = await startFakeRailway();
    onTestFinished(() => fake.stop());
    const directory = mkdtempSync(join(tmpdir(), "osp-test-cli-"));
    onTestFinished(() => rmSync(directory, { recursive: true, force: true }));
    const railway = createRailwayMachine(database, writeStubCli(directory, process.env), fake);
    onTestFinished(() => railway.clear());

    const deployers = [1, 2].map(() => railway.start({ DATABASE_URL: pooler.url, OSP_CONCURRENCY: "2" }));
    await Promise.all(deployers.map((deployer) => deployer.event("deployer.started")));
    const schemas = ["first", "second", "third"];
    for (const schema of schemas) await railway.insert(schema);
    for (const schema of schemas) await railway.deployed(schema);
    expect(schemas.map((schema) => onRailway(fake, schema).running.length)).toEqual([1, 1, 1]);
    expect((await outcomes()).map(({ outcome }) => outcome)).toEqual(["deployed", "deployed", "deployed"]);
    // It was one: every session has served several, and there were more clients than sessions.
    expect(Math.min(...pooler.served())).toBeGreaterThan(3);
    expect(await Promise.all(deployers.map((deployer) => deployer.stop()))).toEqual([0, 0]);

    const local = machine.start({ DATABASE_URL: pooler.url });
    await eventually(() => Promise.resolve(local.process.exitCode), (code) => code !== null);
    expect(local.process.exitCode).toBe(78);
    expect(local.output()).toContain("it leads to a pooler in transaction mode");
  },
  120_000,
);

test("a statement_timeout that everything runs into for a while loses nothing and is told once", async () => {
  await setForDeployers(`statement_timeout = '100ms'`);
  onTestFinished(() => setForDeployers(`statement_timeout = 0`));
  const deployer = machine.start({ OSP_SWEEP_SECONDS: "0.2" });
  await deployer.event("supervision.gained");
  await request("slowed");
  await deployer.event("worker.started");
  const blocker = await database.connect();
  onTestFinished(() => void blocker.query("rollback").catch(() => {}));
  await blocker.query("begin; lock table osp_metadata.worker_registry in access exclusive mode");
  // It gives its work up: by its own clock, or because what became of it cannot be written.
  await eventually(
    () => Promise.resolve(deployer.output()),
    (text) => /"event":"(lease.lost|settle.failed)"/.test(text),
  );
  await eventually(() => Promise.resolve(deployer.output()), (text) => text.includes(`"registry.failing"`));
  await blocker.query("commit");

  expect(await reaches("slowed", "deployed")).toMatchObject({ retry_count: 0 });
  expect((await outcomes()).map(({ outcome }) => outcome)).toEqual(["abandoned", "deployed"]);
  expect(await machine.workers()).toHaveLength(1);
  await request("afterwards");
  await reaches("afterwards", "deployed");
  for (const event of ["registry.failing", "renewal.failing"]) {
    expect([event, timesLogged(deployer.output(), event)]).toEqual([event, 1]);
  }
  expect(deployer.output()).toContain("canceling statement due to statement timeout");
});

test("a database that is read-only for a while: workers are kept up, nothing is settled, and then it goes on by itself", async () => {
  const deployer = machine.start();
  await request("kept_up");
  await reaches("kept_up", "deployed");
  const [worker] = await machine.workers();
  await request("interrupted");
  await eventually(() => machine.workers(), (pids) => pids.length === 2);
  await setForDeployers(`default_transaction_read_only = on`);
  onTestFinished(() => setForDeployers(`default_transaction_read_only = off`));
  await cutAll();
  await eventually(() => Promise.resolve(deployer.output()), (text) => text.includes("read-only transaction"));
  await eventually(() => Promise.resolve(deployer.output()), (text) => timesLogged(text, "supervision.gained") === 2);
  await eventually(() => rowOf("interrupted"), (row) => row?.deployment_status !== "pending");

  process.kill(worker ?? 0, "SIGKILL");
  await eventually(() => machine.workers(), (pids) => pids.length === 2 && !pids.includes(worker ?? 0));
  expect(await rowOf("kept_up")).toMatchObject({ revision: 1, deployment_status: "deployed" });

  await setForDeployers(`default_transaction_read_only = off`);
  expect(await reaches("interrupted", "deployed")).toMatchObject({ revision: 1, retry_count: 0 });
  await request("afterwards");
  await reaches("afterwards", "deployed");
  expect(await machine.workers()).toHaveLength(3);
  expect(deployer.process.exitCode).toBeNull();
});

test.each(["fast", "immediate"] as const)("a %s restart of Postgres in the middle of a deployment", async (how) => {
  const postgres = await startOwnPostgres();
  onTestFinished(() => postgres.remove());
  const bell = createTestHandler(postgres);
  const ours = createMachine(postgres, () => temporal.address);
  onTestFinished(() => ours.clear());
  const row = async (schema: string) => (await registryOf(postgres, schema)).at(-1);
  const isDeployed = (schema: string) =>
    eventually(() => row(schema), (found) => found?.deployment_status === "deployed", 60_000);

  const deployers = [ours.start(), ours.start()];
  await insertService(postgres, "running");
  await bell(ring());
  await isDeployed("running");
  const [worker] = await ours.workers();
  await insertService(postgres, "interrupted");
  await bell(ring());
  await eventually(() => ours.workers(), (pids) => pids.length === 2);
  await postgres.stop(how);
  for (const deployer of deployers) await deployer.event("supervision.failing");
  expect(deployers.map(({ process }) => process.exitCode)).toEqual([null, null]);
  await postgres.start();

  expect(await isDeployed("interrupted")).toMatchObject({ revision: 1, retry_count: 0 });
  await insertService(postgres, "afterwards");
  await bell(ring());
  await isDeployed("afterwards");
  const workers = await ours.workers();
  expect(workers).toHaveLength(3);
  expect(workers).toContain(worker);
  expect(
    await postgres.rows(
      `select count(*)::integer as open from osp_metadata.deployment_attempts as a
       where a.ended_at is null or a.outcome not in ('deployed', 'deferred', 'abandoned', 'handed_back')`,
    ),
  ).toEqual([{ open: 0 }]);
}, 120_000);
