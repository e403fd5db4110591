import { once } from "node:events";
import { connect, createServer } from "node:net";
import { afterAll, afterEach, beforeAll, beforeEach, expect, onTestFinished, test } from "vitest";
import { openPool, openRenewalPool } from "../../deployer/open-pool.ts";
import { createPlatformState } from "../../deployer/platform-state.ts";
import { createRequestBudget } from "../../deployer/platforms/railway/budget.ts";
import { createRegistry } from "../../deployer/registry.ts";
import { pino } from "pino";
import { useDatabase } from "../support/database.ts";
import { createMachine } from "../support/deployer.ts";
import { createTestHandler, ring } from "../support/edge-function.ts";
import { untilBlocked } from "../support/locks.ts";
import { clearServices, eventually, insertService } from "../support/services.ts";
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

/** A person who has begun a transaction and gone for lunch. */
async function person(statement: string) {
  const client = await database.connect();
  onTestFinished(() => client.end());
  await client.query("begin");
  await client.query(statement);
  return client;
}

/** A deployer's own pools, and what it does by them. */
function open(url = database.deployerUrl) {
  const [pool, renewals] = [openPool(url, 10), openRenewalPool(url, 10)];
  onTestFinished(async () => void await Promise.all([pool.end(), renewals.end()]));
  const settings = { owner: "a", platform: "local", leaseSeconds: 10, renewTimeoutMs: 3500 };
  const state = createPlatformState(pool, { platform: "local", owner: "a" });
  return { pool, state, registry: createRegistry(pool, settings, renewals) };
}
const waitingSessions = () =>
  database.rows(
    `select pid, query from pg_stat_activity
     where datname = current_database() and usename = 'osp_test_deployer' and wait_event_type = 'Lock'`,
  );
const deployed = { outcome: "deployed", workerVersion: "1", serviceId: "s", platformDeploymentId: "d" } as const;

test.each(["lock table osp_metadata.platforms", "select from osp_metadata.platforms where name = 'local' for update"])(
  "while somebody has begun with `%s`, renewals and settlements go on, and one connection waits",
  async (statement) => {
    const { pool, state, registry } = open();
    for (const schema of ["one", "two"]) await insertService(database, schema);
    await handler(ring());
    const claims = await registry.claim(2);
    const holder = await person(statement);
    const requests = Promise.allSettled(Array.from({ length: 8 }, () => state.takeRequests(1, 1000)));
    await untilBlocked(database, holder);
    expect(await registry.renew(claims.map((claim) => claim.lease_token))).toHaveLength(2);
    for (const claim of claims) expect(await registry.settle(claim, deployed)).toBe(true);
    expect((await waitingSessions()).length).toBeLessThanOrEqual(1);
    expect(pool.waitingCount).toBe(0);
    await holder.query("rollback");
    expect((await requests).map(({ status }) => status)).toEqual(Array(8).fill("fulfilled"));
  },
);

test("whoever cannot count its requests says whose lock is in the way", async () => {
  const { state } = open();
  const budget = createRequestBudget(state, { perHour: 1000, perSecond: 1000 }, pino({ level: "silent" }));
  await person(`select from osp_metadata.platforms where name = 'local' for update`);
  await expect(budget.take(1)).rejects.toMatchObject({
    class: "unavailable",
    message: expect.stringMatching(/has the row of Railway in osp_metadata\.platforms locked.*pg_stat_activity/),
  });
}, 30_000);

test("a table that somebody has locked is waited for by no session whose client has given up", async () => {
  const { registry } = open();
  const holder = await person("lock table osp_metadata.worker_registry");
  const looks = [registry.nextExpiryMs(), registry.claim(1)].map((look) => look.catch((error: unknown) => error));
  await untilBlocked(database, holder);
  expect(await Promise.all(looks)).toMatchObject([{ code: "55P03" }, { code: "55P03" }]);
  expect(await waitingSessions()).toEqual([]);
  await holder.query("rollback");
  expect(await registry.claim(1)).toEqual([]);
});

test("sessions of a pooler, which are others' as well, stay as they are", async () => {
  const pooler = await startTransactionPooler(database.deployerUrl, 1);
  onTestFinished(() => pooler.close());
  const settingOf = async (url: string) => (await open(url).pool.query(`show lock_timeout`)).rows;
  expect(await settingOf(pooler.url)).toEqual([{ lock_timeout: "0" }]);
  expect(await settingOf(database.deployerUrl)).toEqual([{ lock_timeout: "1s" }]);
});

test.each([1, 2])(
  "a new connection of %i that is cut before its first use fails its statement, and nothing else",
  async (max) => {
    const target = new URL(database.deployerUrl);
    const port = Number(target.port);
    let cuts = 0;
    const server = createServer((client) => {
      const upstream = connect(port, target.hostname);
      for (const socket of [client, upstream]) socket.on("error", () => {}).on("close", () => upstream.destroy());
      client.on("data", (chunk) => {
        if (!chunk.includes("set_config('lock_timeout'") || cuts >= max) return void upstream.write(chunk);
        cuts += 1;
        client.resetAndDestroy();
      });
      upstream.on("data", (chunk) => void client.write(chunk));
    }).listen(0, "127.0.0.1");
    await once(server, "listening");
    onTestFinished(() => void server.close());
    target.port = String(Object(server.address()).port);
    const { pool } = open(target.href);
    const answers = await Promise.allSettled(Array.from({ length: max }, () => pool.query("select 1 as one")));
    expect(answers.map(({ status }) => status)).toEqual(Array(max).fill("rejected"));
    expect((await pool.query("select 1 as one")).rows).toEqual([{ one: 1 }]);
  },
);

test("a deployer that starts while somebody has the platform's row locked deploys, within its limit, and signs afterwards", async () => {
  await database.rows(
    `update osp_metadata.platforms set concurrency_limit = 1, supervisor = null where name = 'local'`,
  );
  onTestFinished(() => void database.rows(`update osp_metadata.platforms set concurrency_limit = null`));
  const holder = await person(`select from osp_metadata.platforms where name = 'local' for update`);
  const deployer = machine.start();
  await deployer.event("supervision.gained");
  for (const schema of ["one", "two"]) await insertService(database, schema);
  await handler(ring());
  const status = async () => (await database.rows(`select deployment_status from osp_metadata.worker_registry`));
  await eventually(status, (rows) => rows.length === 2 && rows.every((row) => row["deployment_status"] === "deployed"));
  const supervisor = () => database.rows(`select supervisor from osp_metadata.platforms where name = 'local'`);
  expect(await supervisor()).toEqual([{ supervisor: null }]);
  await holder.query("rollback");
  await eventually(supervisor, ([row]) => String(row?.["supervisor"]).endsWith(`:${deployer.process.pid}`));
});
