import pg from "pg";
import { afterEach, beforeEach, expect, test } from "vitest";
import { createRegistry } from "../../deployer/registry.ts";
import { refusal, useDatabase } from "../support/database.ts";
import { createSqlQueue, createTestHandler, ring } from "../support/edge-function.ts";
import { untilBlocked } from "../support/locks.ts";
import { insertService, registryOf } from "../support/services.ts";

const database = useDatabase();
const queue = createSqlQueue(database);
const handler = createTestHandler(database);
const opened: { end(): Promise<void> }[] = [];
afterEach(() => Promise.all(opened.splice(0).map((connection) => connection.end())));
beforeEach(async () => {
  await database.rows(`delete from osp.services`);
  await database.rows(`delete from osp_metadata.worker_registry`);
  await database.rows(`delete from osp_metadata.service_intents`);
});

/** A deployer all of whose statements run on one connection, and so in the transaction that is open there. */
function deployerOnOneConnection() {
  const connection = new pg.Pool({ connectionString: database.deployerUrl, max: 1 });
  opened.push(connection);
  return { connection, registry: createRegistry(connection, { owner: "d", platform: "local", leaseSeconds: 10 }) };
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
