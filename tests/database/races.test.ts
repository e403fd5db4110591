import type pg from "pg";
import { afterEach, beforeEach, expect, test } from "vitest";
import { createRegistry } from "../../deployer/registry.ts";
import { refusal, useDatabase } from "../support/database.ts";
import { createMemoryStore, createSqlQueue, createTestHandler, ring } from "../support/edge-function.ts";
import type { IntentQueue } from "../../supabase/functions/queue-worker-build/intents.ts";
import { untilBlocked } from "../support/locks.ts";
import { clearServices, insertService, registryOf } from "../support/services.ts";

const database = useDatabase();
const queue = createSqlQueue(database);
const handler = createTestHandler(database);
const opened: { end(): Promise<void> }[] = [];
afterEach(() => Promise.all(opened.splice(0).map((connection) => connection.end())));
beforeEach(() => clearServices(database));

/** A deployer all of whose statements run on one connection, and so in the transaction that is open there. */
function deployerOnOneConnection() {
  const connection = database.deployerPool(1);
  return {
    connection,
    registry: createRegistry(connection, { owner: "d", platform: "local", leaseSeconds: 10, renewTimeoutMs: 5000 }),
  };
}

/** A connection with an open transaction. */
async function begin(): Promise<pg.Client> {
  const client = await database.connect();
  opened.push(client);
  await client.query("begin");
  return client;
}
const sqlOn = (client: pg.Client) => ({
  rows: async <Row>(sql: string, values?: unknown[]): Promise<Row[]> => (await client.query(sql, values)).rows,
});
const edit = (name: string) => database.rows(`update osp.services set service_name = $1`, [name]);

test("what is claimed while a newer revision is enqueued is told to stop, and the newer one waits", async () => {
  await insertService(database, "a");
  await handler(ring());
  const { connection, registry } = deployerOnOneConnection();
  await connection.query("begin");
  const [older] = await registry.claim(1);
  expect(older?.revision).toBe(1);
  await edit("Newer");
  const enqueued = queue.enqueue(await queue.take());
  await untilBlocked(database, connection);
  await connection.query("commit");
  expect(await enqueued).toMatchObject([{ revision: 2, deployment_status: "pending" }]);
  expect(await registryOf(database, "a")).toMatchObject([
    { revision: 1, deployment_status: "deploying", stop_requested_at: expect.any(Date) },
    { revision: 2, deployment_status: "pending", stop_requested_at: null },
  ]);
  expect(await registry.renew([older?.lease_token ?? ""])).toMatchObject([{ is_superseded: true }]);
});

test("what is superseded while it is claimed is not claimed, and the newer one is", async () => {
  await insertService(database, "a");
  await handler(ring());
  await edit("Newer");
  const taken = await queue.take();
  const enqueuer = await begin();
  await createSqlQueue(sqlOn(enqueuer)).enqueue(taken);
  const { registry } = deployerOnOneConnection();
  expect(await registry.claim(5)).toEqual([]);
  await enqueuer.query("commit");
  expect(await registry.claim(5)).toMatchObject([{ revision: 2 }]);
  expect(await registryOf(database, "a")).toMatchObject([{ deployment_status: "stopped" }, {
    deployment_status: "deploying",
  }]);
});

test("what settles while a newer revision that wants a stop is enqueued is told to stop", async () => {
  await insertService(database, "a");
  await handler(ring());
  const { connection, registry } = deployerOnOneConnection();
  const [claim] = await registry.claim(1);
  await connection.query("begin");
  if (claim) {
    await registry.settle(claim, {
      outcome: "deployed",
      workerVersion: "1",
      serviceId: "s",
      platformDeploymentId: "d",
    });
  }
  await database.rows(`update osp.services set enabled = false`);
  const enqueued = queue.enqueue(await queue.take());
  await untilBlocked(database, connection);
  await connection.query("commit");
  expect(await enqueued).toHaveLength(1);
  expect(await registryOf(database, "a")).toMatchObject([
    { deployment_status: "deployed", stop_requested_at: expect.any(Date) },
    { deployment_status: "pending" },
  ]);
});

test("an intent that is to be taken alone and is locked does not hold the others up", async () => {
  await insertService(database, "suspect");
  await insertService(database, "fine");
  await database.rows(
    `update osp_metadata.service_intents set attempts = 2, requested_at = requested_at - interval '1 minute' where service_schema = 'suspect'`,
  );
  const editor = await begin();
  await editor.query(`select from osp_metadata.service_intents where service_schema = 'suspect' for update`);
  expect((await queue.take()).map((intent) => intent.service_schema)).toEqual(["fine"]);
  await editor.query("rollback");
  expect((await queue.take()).map((intent) => intent.service_schema)).toEqual(["suspect"]);
});

test("taking beside a truncate waits for it, and neither is a victim of a deadlock", async () => {
  await insertService(database, "a");
  const truncater = await begin();
  await truncater.query(`lock table osp.services in access exclusive mode`); // what TRUNCATE begins with
  const taken = queue.take();
  await untilBlocked(database, truncater);
  await truncater.query(`truncate osp.services`);
  await truncater.query("commit");
  expect(await taken).toMatchObject([{ service_schema: "a", revision: 2, wanted: "stop", source: "delete" }]);
});

test("a truncate that stays open is told with 503, and nothing is lost", async () => {
  await insertService(database, "a");
  const truncater = await begin();
  await truncater.query(`truncate osp.services`);
  const response = await handler(ring());
  expect(response.status).toBe(503);
  expect((await response.json()).message).toMatch(/osp\.services: it is locked by a TRUNCATE.*pg_locks/);
  expect(await refusal(database.rows(`select osp_metadata.reconcile()`))).toMatchObject({ code: "55P03" });
  await truncater.query("rollback");
  await handler(ring());
  expect(await registryOf(database, "a")).toMatchObject([{ revision: 1, deployment_status: "pending" }]);
});

test("an edit that stays open holds up its own service alone, and its newer revision follows", async () => {
  await insertService(database, "edited");
  await insertService(database, "other");
  const store = createMemoryStore();
  const putOnce = store.putOnce;
  const editor = await begin();
  store.putOnce = async (path, json) => {
    // Between the taking and the enqueueing: what is taken already cannot be skipped any more.
    await editor.query(`update osp.services set service_name = 'Edited' where service_schema = 'edited'`);
    await putOnce(path, json);
  };
  const rings: string[] = [];
  const response = await createTestHandler(database, { store, ringAgain: () => rings.push("ring") })(ring());
  expect(response.status).toBe(200);
  expect(await response.json()).toEqual({ taken: 2, enqueued: 1, rejected: 0, remaining: 0 });
  expect(await registryOf(database, "other")).toMatchObject([{ revision: 1, deployment_status: "pending" }]);
  expect(await registryOf(database, "edited")).toEqual([]);
  expect(rings).toEqual([]);
  await editor.query("commit");
  await database.rows(`update osp_metadata.service_intents set lease_expires_at = clock_timestamp()`);
  await handler(ring());
  expect(await registryOf(database, "edited")).toMatchObject([{ revision: 2, deployment_status: "pending" }]);
});

test("an edit that is rolled back leaves its revision waiting", async () => {
  await insertService(database, "a");
  const taken = await queue.take();
  const editor = await begin();
  await editor.query(`update osp.services set service_name = 'Edited'`);
  expect(await queue.enqueue(taken)).toEqual([]);
  await queue.release(taken); // locked as well: it is passed over, not waited for
  await editor.query("rollback");
  await queue.release(taken);
  await handler(ring());
  expect(await registryOf(database, "a")).toMatchObject([{ revision: 1, deployment_status: "pending" }]);
});

test("what enqueueing did not accept is given back at once", async () => {
  await insertService(database, "a");
  const locked: IntentQueue = {
    ...queue,
    async enqueue(deployments) {
      const editor = await begin();
      await editor.query(`select from osp_metadata.service_intents for update`);
      const accepted = await queue.enqueue(deployments);
      await editor.query("rollback");
      return accepted;
    },
  };
  const rings: string[] = [];
  const response = await createTestHandler(database, { queue: locked, ringAgain: () => rings.push("ring") })(ring());
  expect(await response.json()).toEqual({ taken: 1, enqueued: 0, rejected: 0, remaining: 1 });
  expect(rings).toEqual([]);
  expect(await database.rows(`select attempts, lease_token from osp_metadata.service_intents`)).toEqual([
    { attempts: 0, lease_token: null },
  ]);
});

test("after a failed enqueueing everything is given back at once and not counted as a try", async () => {
  await insertService(database, "a");
  const failing: IntentQueue = { ...queue, enqueue: () => Promise.reject(new Error("the database is away")) };
  const response = await createTestHandler(database, { queue: failing })(ring());
  expect(response.status).toBe(503);
  expect((await response.json()).message).toBe("the database is away");
  expect(await database.rows(`select attempts, lease_token from osp_metadata.service_intents`)).toEqual([
    { attempts: 0, lease_token: null },
  ]);
});

test("giving back is best effort: where it fails, what was enqueued is, and the lease ends by itself", async () => {
  await insertService(database, "a");
  const failing: IntentQueue = {
    ...queue,
    enqueue: () => Promise.resolve([]),
    release: () => Promise.reject(new Error("the database is away")),
  };
  const events: unknown[] = [];
  const response = await createTestHandler(database, { queue: failing, log: (event) => events.push(event) })(ring());
  expect(response.status).toBe(200);
  expect(events).toContainEqual(expect.objectContaining({ event: "release.failed", error: "the database is away" }));
});

test("reconcile passes over what is edited and requests the rest", async () => {
  for (const schema of ["edited", "other"]) await insertService(database, schema);
  await database.rows(
    `begin; set local session_replication_role = replica; update osp.services set enabled = false; commit`,
  );
  const editor = await begin();
  await editor.query(`update osp.services set enabled = true where service_schema = 'edited'`);
  await database.rows(`select osp_metadata.reconcile()`);
  await editor.query("commit");
  expect(await database.rows(`select service_schema, wanted, source from osp_metadata.service_intents order by 1`))
    .toEqual([
      { service_schema: "edited", wanted: "run", source: "enable" },
      { service_schema: "other", wanted: "stop", source: "disable" },
    ]);
});
