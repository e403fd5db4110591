import { beforeEach, describe, expect, test } from "vitest";
import { useDatabase } from "../support/database.ts";
import { createTestHandler, ring } from "../support/edge-function.ts";
import { insertService, registryOf } from "../support/services.ts";

const database = useDatabase();
const handler = createTestHandler(database);
beforeEach(async () => {
  await database.rows(`delete from osp.services`);
  await database.rows(`delete from osp_metadata.service_intents`);
  await database.rows(`delete from osp_metadata.worker_registry`);
});

async function reconcile(): Promise<number | undefined> {
  const [row] = await database.rows<{ waiting: number }>(`select osp_metadata.reconcile() as waiting`);
  return row?.waiting;
}
const intents = () =>
  database.rows(`select service_schema, revision, wanted, source from osp_metadata.service_intents order by 1`);
/** What a restore does: no trigger sees it. */
const unseen = (sql: string) => database.rows(`begin; set local session_replication_role = replica; ${sql}; commit`);

describe("a number that JavaScript cannot hold does not make a service differ from itself", () => {
  test.each([
    ["more digits than a double has", `{"activity_timeout_seconds": 30.00000000000000001}`],
    ["more digits than a double has, and far from one, in an unknown option", `{"huge": 1.2345678901234567890123e300}`],
    ["more than the greatest safe integer, deep", `{"deep": [{"id": 9007199254740993}]}`],
  ])("%s", async (_title, options) => {
    await insertService(database, "a");
    await database.rows(`update osp.services set options = $1`, [options]);
    await handler(ring());
    expect(await registryOf(database, "a")).toMatchObject([{ revision: 2 }]);
    expect(await reconcile()).toBe(0);
    expect(await reconcile()).toBe(0);
  });
});

test("a number written otherwise is the same number", async () => {
  await insertService(database, "a", { options: { activity_timeout_seconds: 30 } });
  await handler(ring());
  await database.rows(`update osp.services set options = '{"activity_timeout_seconds": 30.00}'`);
  expect(await reconcile()).toBe(0);
});

test.each([
  ["the name", `service_name = 'Other'`],
  ["the workflows", `workflows = '[{"name": "other", "activities": ["x"]}]'`],
  ["the options", `options = '{"activity_timeout_seconds": 31}'`],
])("%s changed with triggers off is one revision", async (_title, change) => {
  await insertService(database, "a");
  await handler(ring());
  await unseen(`update osp.services set ${change}`);
  expect(await reconcile()).toBe(1);
  expect(await intents()).toMatchObject([{ revision: 2, wanted: "run", source: "update" }]);
  await handler(ring());
  expect(await reconcile()).toBe(0);
});

test("a deployment whose hash is not known counts as unchanged", async () => {
  await insertService(database, "a");
  await handler(ring());
  await database.rows(`update osp_metadata.worker_registry set spec_hash = null`);
  expect(await reconcile()).toBe(0);
});

test("a registry that was emptied is filled again, with new numbers", async () => {
  await insertService(database, "a");
  await handler(ring());
  await database.rows(`delete from osp_metadata.worker_registry`);
  expect(await reconcile()).toBe(1);
  expect(await intents()).toMatchObject([{ revision: 2, wanted: "run", source: "reconcile" }]);
});

describe("intents from an older backup than the registry's are numbered above it", () => {
  async function threeRevisions(): Promise<void> {
    await insertService(database, "a");
    await handler(ring());
    for (const name of ["Two", "Three"]) {
      await database.rows(`update osp.services set service_name = $1 where service_schema = 'a'`, [name]);
      await handler(ring());
    }
  }

  test.each([
    ["an older revision, enqueued", 1, 1],
    ["an older revision, waiting", 2, 1],
    ["the newest revision, waiting", 3, 2],
  ])("%s", async (_title, revision, enqueued) => {
    await threeRevisions();
    await database.rows(`update osp_metadata.service_intents set revision = $1, enqueued_revision = $2`, [
      revision,
      enqueued,
    ]);
    expect(await reconcile()).toBe(1);
    expect(await intents()).toMatchObject([{ revision: 4, wanted: "run", source: "reconcile" }]);
    await handler(ring());
    expect((await registryOf(database, "a")).at(-1)).toMatchObject({ revision: 4, deployment_status: "pending" });
    expect(await reconcile()).toBe(0);
  });

  test.each([
    ["disabled", `update osp.services set enabled = false`, "disable"],
    ["deleted", `delete from osp.services`, "delete"],
  ])("of a service that is %s", async (_title, statement, source) => {
    await threeRevisions();
    await database.rows(statement);
    await handler(ring());
    await database.rows(`update osp_metadata.service_intents set revision = 2, enqueued_revision = 2`);
    expect(await reconcile()).toBe(1);
    expect(await intents()).toMatchObject([{ revision: 5, wanted: "stop", source }]);
    await handler(ring());
    expect(await reconcile()).toBe(0);
  });

  test("what is taken before that is not accepted, and holds nobody up", async () => {
    await threeRevisions();
    await database.rows(`update osp_metadata.service_intents set revision = 2, enqueued_revision = 1`);
    await insertService(database, "neighbour");
    expect(await (await handler(ring())).json()).toMatchObject({ taken: 2, enqueued: 1, remaining: 1 });
    expect(await reconcile()).toBe(1);
    expect(await (await handler(ring())).json()).toMatchObject({ enqueued: 1, remaining: 0 });
    expect((await registryOf(database, "a")).map(({ revision }) => revision)).toEqual([1, 2, 3, 4]);
  });
});
