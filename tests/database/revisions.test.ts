import { beforeEach, expect, test } from "vitest";
import { refusal, useDatabase } from "../support/database.ts";
import { insertService, workflows } from "../support/services.ts";

const database = useDatabase();
beforeEach(async () => {
  await database.rows(`delete from osp.services`);
  await database.rows(`delete from osp_metadata.service_intents`);
  await database.rows(`delete from osp_metadata.worker_registry`);
});

async function intentOf(schema: string) {
  const [row] = await database.rows<{ revision: number; wanted: string; source: string; deployment_id: string }>(
    `select revision, wanted, source, deployment_id from osp_metadata.service_intents where service_schema = $1`,
    [schema],
  );
  return row;
}
const change = (sql: string) => database.rows(`update osp.services set ${sql} where service_schema = 'a'`);

test("each change that reaches the worker is one revision, numbered on after delete and insert", async () => {
  await insertService(database, "a");
  expect(await intentOf("a")).toMatchObject({ revision: 1, wanted: "run", source: "insert" });
  await change(`service_name = 'Other'`);
  expect(await intentOf("a")).toMatchObject({ revision: 2, wanted: "run", source: "update" });
  await change(`enabled = false`);
  expect(await intentOf("a")).toMatchObject({ revision: 3, wanted: "stop", source: "disable" });
  await change(`service_name = 'While it is disabled'`);
  expect(await intentOf("a")).toMatchObject({ revision: 3 });
  await change(`enabled = true`);
  expect(await intentOf("a")).toMatchObject({ revision: 4, wanted: "run", source: "enable" });
  await database.rows(`delete from osp.services where service_schema = 'a'`);
  expect(await intentOf("a")).toMatchObject({ revision: 5, wanted: "stop", source: "delete" });
  await insertService(database, "a");
  expect(await intentOf("a")).toMatchObject({ revision: 6, wanted: "run", source: "insert" });
});

test("an update that changes nothing makes no revision", async () => {
  await insertService(database, "a");
  const before = await intentOf("a");
  await change(`service_name = service_name, workflows = workflows, updated_at = now()`);
  expect(await intentOf("a")).toEqual(before);
});

test("a rolled-back change leaves no trace", async () => {
  const client = await database.connect();
  await client.query("begin");
  await client.query(`insert into osp.services (service_schema, service_name, workflows) values ('a', 'A', $1)`, [
    JSON.stringify(workflows),
  ]);
  await client.query("rollback");
  expect(await intentOf("a")).toBeUndefined();
});

test("on conflict do nothing makes no revision, on conflict do update makes one", async () => {
  await insertService(database, "a");
  const insert =
    `insert into osp.services (service_schema, service_name, workflows) values ('a', 'New', $1) on conflict (service_schema)`;
  await database.rows(`${insert} do nothing`, [JSON.stringify(workflows)]);
  expect(await intentOf("a")).toMatchObject({ revision: 1 });
  await database.rows(`${insert} do update set service_name = excluded.service_name`, [JSON.stringify(workflows)]);
  expect(await intentOf("a")).toMatchObject({ revision: 2, source: "update" });
});

test("truncate wants every service stopped", async () => {
  await insertService(database, "a");
  await insertService(database, "b");
  await database.rows(`truncate osp.services`);
  expect(await intentOf("a")).toMatchObject({ revision: 2, wanted: "stop", source: "delete" });
  expect(await intentOf("b")).toMatchObject({ revision: 2, wanted: "stop", source: "delete" });
});

test("a statement of 1,000 rows makes a revision each", async () => {
  await database.rows(
    `insert into osp.services (service_schema, service_name, workflows) select 's' || g, 'S', $1 from generate_series(1, 1000) as g`,
    [JSON.stringify(workflows)],
  );
  expect(
    await database.rows(
      `select count(*)::int as count, min(revision) as least, max(revision) as most from osp_metadata.service_intents`,
    ),
  ).toEqual([{ count: 1000, least: 1, most: 1 }]);
});

test("redeploy makes a new revision of an unchanged row and returns its id", async () => {
  await insertService(database, "a");
  const [asked] = await database.rows<{ revision: number; deployment_id: string }>(`select * from osp.redeploy('a')`);
  expect(await intentOf("a")).toMatchObject({ revision: 2, source: "redeploy", deployment_id: asked?.deployment_id });
});

test("redeploy says which service there is not, or that it is disabled", async () => {
  expect(await refusal(database.rows(`select * from osp.redeploy('nobody')`))).toMatchObject({
    code: "P0002",
    message: expect.stringContaining(`"nobody"`),
  });
  await insertService(database, "a", { enabled: false });
  expect(await refusal(database.rows(`select * from osp.redeploy('a')`))).toMatchObject({
    message: expect.stringContaining("disabled"),
    hint: expect.stringContaining("enabled = true"),
  });
});

test("deploy_service called twice is one deployment", async () => {
  const call = () => database.rows(`select * from osp.deploy_service('a', 'A', $1)`, [JSON.stringify(workflows)]);
  const first = await call();
  expect(await call()).toEqual(first);
});

test.each([
  ["has no revision", `delete from osp_metadata.service_intents`],
  ["was told to stop", `update osp_metadata.service_intents set wanted = 'stop', source = 'delete'`],
])("deploy_service requests a service that stands in the table and %s", async (_title, restore) => {
  const call = () => database.rows(`select * from osp.deploy_service('a', 'A', $1)`, [JSON.stringify(workflows)]);
  await call();
  await database.rows(restore);
  const asked = await call();
  expect(asked).toEqual([{ revision: expect.any(Number), deployment_id: expect.any(String) }]);
  expect(await intentOf("a")).toMatchObject({ wanted: "run", source: "reconcile", ...asked[0] });
  expect(await call()).toEqual(asked);
});

test.each([
  [
    "loaded with triggers off",
    `insert into osp.services (service_schema, service_name, workflows) values ('n', 'N', '[{"name":"w","activities":["x"]}]')`,
    "n",
    { wanted: "run", source: "reconcile" },
  ],
  ["disabled with triggers off", `update osp.services set enabled = false where service_schema = 'a'`, "a", {
    wanted: "stop",
    source: "disable",
  }],
  ["deleted with triggers off", `delete from osp.services where service_schema = 'a'`, "a", {
    wanted: "stop",
    source: "delete",
  }],
])("reconcile requests what was %s", async (_title, statement, schema, wanted) => {
  await insertService(database, "a");
  const client = await database.connect();
  await client.query(`set session_replication_role = replica`);
  await client.query(statement);
  const [row] = await database.rows<{ waiting: number }>(`select osp_metadata.reconcile() as waiting`);
  expect(row?.waiting).toBeGreaterThan(0);
  expect(await intentOf(schema)).toMatchObject(wanted);
  const settled = await intentOf(schema);
  await database.rows(`select osp_metadata.reconcile()`);
  expect(await intentOf(schema)).toEqual(settled);
});
