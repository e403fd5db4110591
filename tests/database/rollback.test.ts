import type pg from "pg";
import { beforeEach, describe, expect, onTestFinished, test } from "vitest";
import { refusal, useDatabase } from "../support/database.ts";
import { createSqlQueue, createTestHandler, ring } from "../support/edge-function.ts";
import { untilBlocked } from "../support/locks.ts";
import { insertService, registryOf } from "../support/services.ts";

const database = useDatabase();
const queue = createSqlQueue(database);
const handler = createTestHandler(database);
beforeEach(async () => {
  await database.rows(`delete from osp.services`);
  await database.rows(`delete from osp_metadata.service_intents`);
  await database.rows(`delete from osp_metadata.worker_registry`);
});

interface Asked {
  revision: number;
  deployment_id: string;
}
const rollback = (schema: string | null, revision: number | null) =>
  database.rows<Asked>(`select * from osp.rollback($1, $2)`, [schema, revision]);
const rename = (name: string) => database.rows(`update osp.services set service_name = $1`, [name]);
const serviceOf = async (schema: string) =>
  (await database.rows(`select * from osp.services where service_schema = $1`, [schema]))[0];
const intentOf = async (schema: string) =>
  (await database.rows(
    `select revision, wanted, source, rolled_back_to, deployment_id, requested_by from osp_metadata.service_intents where service_schema = $1`,
    [schema],
  ))[0];

/** A connection with an open transaction. */
async function begin(): Promise<pg.Client> {
  const client = await database.connect();
  onTestFinished(() => client.end());
  await client.query("begin");
  return client;
}

/** Revisions 1, 2 … of service `a`, each named so and enqueued. */
async function revisions(...names: string[]): Promise<void> {
  for (const [index, name] of names.entries()) {
    if (index === 0) await insertService(database, "a", { name, options: { activity_timeout_seconds: 30 } });
    else await rename(name);
    await handler(ring());
  }
}

test("the spec of an earlier revision comes back as a new revision, and its manifest says the same", async () => {
  await revisions("One", "Two");
  await database.rows(
    `update osp.services set workflows = '[{"name": "other", "activities": ["x"]}]', options = '{}'`,
  );
  await handler(ring());
  const before = await serviceOf("a");
  const [asked] = await rollback("a", 1);
  expect(asked).toEqual({ revision: 4, deployment_id: expect.any(String) });
  expect(await serviceOf("a")).toMatchObject({
    ...before,
    service_name: "One",
    workflows: [{ name: "doWork", activities: ["first", "second"] }],
    options: { activity_timeout_seconds: 30 },
    updated_at: expect.any(Date),
  });
  expect(await intentOf("a")).toMatchObject({ ...asked, wanted: "run", source: "rollback", rolled_back_to: 1 });

  await handler(ring());
  const [first, , , newest] = await database.rows<{ manifest: object }>(
    `select * from osp_metadata.worker_registry order by revision`,
  );
  expect(newest).toMatchObject({
    id: asked?.deployment_id,
    revision: 4,
    source: "rollback",
    rolled_back_to: 1,
    deployment_status: "pending",
    manifest: { ...first?.manifest, revision: 4 },
    logs: expect.stringMatching(/^\S+Z revision 4 enqueued \(rollback to revision 1\)$/),
  });
  expect(await database.rows(`select osp_metadata.reconcile() as waiting`)).toEqual([{ waiting: 0 }]);
});

test("what an edit after it makes is no rollback any more", async () => {
  await revisions("One", "Two");
  await rollback("a", 1);
  await rename("Three");
  expect(await intentOf("a")).toMatchObject({ revision: 4, source: "update", rolled_back_to: null });
});

test("to the spec that stands there already it is one more revision, and the row stays as it is", async () => {
  await revisions("One");
  const before = await serviceOf("a");
  expect(await rollback("a", 1)).toMatchObject([{ revision: 2 }]);
  expect(await serviceOf("a")).toEqual(before);
  expect(await intentOf("a")).toMatchObject({ source: "rollback", rolled_back_to: 1 });
});

test("a number that JavaScript cannot hold comes back as its manifest said it, in one revision", async () => {
  await insertService(database, "a");
  await database.rows(`update osp.services set options = '{"activity_timeout_seconds": 30.00000000000000001}'`);
  await handler(ring());
  expect(await rollback("a", 2)).toMatchObject([{ revision: 3 }]);
  expect(await database.rows(`select options::text from osp.services`)).toEqual([
    { options: `{"activity_timeout_seconds": 30}` },
  ]);
});

test.each([
  ["disabled", `update osp.services set enabled = false`],
  ["deleted", `delete from osp.services`],
  ["truncated", `truncate osp.services`],
])("a service that is %s comes back, enabled, and numbering goes on", async (_title, statement) => {
  await revisions("One");
  const before = await serviceOf("a");
  await database.rows(statement);
  await handler(ring());
  expect(await rollback("a", 1)).toMatchObject([{ revision: 3 }]);
  const after = await serviceOf("a");
  expect(after).toMatchObject({ service_name: "One", enabled: true, options: { activity_timeout_seconds: 30 } });
  expect(Object(after).id === Object(before).id).toBe(statement.includes("enabled"));
  expect(await intentOf("a")).toMatchObject({ wanted: "run", source: "rollback", rolled_back_to: 1 });
});

test("a disabled service with the same spec is one revision as well", async () => {
  await revisions("One");
  await database.rows(`update osp.services set enabled = false`);
  expect(await rollback("a", 1)).toMatchObject([{ revision: 3 }]);
});

test("a revision whose deployment failed can be chosen: the failure may not have been its own", async () => {
  await revisions("One", "Two");
  await database.rows(
    `update osp_metadata.worker_registry set deployment_status = 'failed', error_code = 'not_polling' where revision = 2`,
  );
  expect(await rollback("a", 2)).toMatchObject([{ revision: 3 }]);
});

test("a rollback to a rollback is told by the revision that was asked for", async () => {
  await revisions("One", "Two");
  await rollback("a", 1);
  await handler(ring());
  await rename("Four");
  await rollback("a", 3);
  expect(await intentOf("a")).toMatchObject({ revision: 5, rolled_back_to: 3 });
});

describe("what cannot be chosen is refused with the reason and with what can be, and nothing changes", () => {
  const targets = "Revisions that it can be rolled back to: 6, 1";
  test.each([
    ["one that wanted a stop", 2, `it wanted a stop (disable)`],
    ["one that was refused", 4, `it was refused (spec_invalid) and never became a manifest`],
    ["one that a newer replaced before it was enqueued", 5, `osp_metadata.worker_registry does not have it`],
    ["one whose spec is not known", 7, `its spec is not known`],
    ["one that waits for the Edge Function", 8, `it was not enqueued yet`],
    ["one that is still to come", 9, `its newest revision is 8`],
    ["number 0", 0, `its newest revision is 8`],
    ["a number below it", -3, `its newest revision is 8`],
    ["no number", null, `both must be given`],
  ])("%s", async (_title, revision, reason) => {
    await revisions("One"); // 1
    await database.rows(`update osp.services set enabled = false`); // 2
    await handler(ring());
    await database.rows(`update osp.services set enabled = true`); // 3
    await database.rows(`update osp.services set options = '{"colour": "red"}'`); // 4
    await handler(ring());
    await rename("Five");
    await database.rows(`update osp.services set service_name = 'Six', options = '{}'`); // 6
    await handler(ring());
    await rename("Seven");
    await handler(ring());
    await database.rows(`update osp_metadata.worker_registry set spec = null where revision = 7`);
    await rename("Eight"); // waits
    const before = await intentOf("a");
    expect(await refusal(rollback("a", revision))).toMatchObject({
      code: "P0002",
      message: expect.stringContaining(
        `Cannot roll service "a" back to revision ${revision}: ${reason}`,
      ),
      hint: targets,
    });
    expect(await intentOf("a")).toEqual(before);
    expect(await serviceOf("a")).toMatchObject({ service_name: "Eight" });
  });

  test.each([["nobody", `service "nobody" back to revision 1: there never was such a service`], [
    null,
    `service null back to revision 1: both must be given`,
  ]])("service %s", async (schema, reason) => {
    expect(await refusal(rollback(schema, 1))).toMatchObject({
      code: "P0002",
      message: `Cannot roll ${reason}`,
      hint: expect.stringContaining("select service_schema, wanted_revision from osp_metadata.worker_status"),
    });
  });

  test("a service whose intent was lost", async () => {
    await revisions("One", "Two");
    await database.rows(`delete from osp_metadata.service_intents`);
    expect(await refusal(rollback("a", 9))).toMatchObject({ hint: "Revisions that it can be rolled back to: 2, 1" });
    expect(await rollback("a", 1)).toMatchObject([{ revision: 3 }]);
  });

  test("a service none of whose revisions became a manifest", async () => {
    await insertService(database, "a", { options: { colour: "red" } });
    await handler(ring());
    expect(await refusal(rollback("a", 1))).toMatchObject({
      hint: "Revisions that it can be rolled back to: none. Write its row in osp.services instead",
    });
  });

  test("of many the newest 20 are listed, and how to see all", async () => {
    await revisions("One");
    await database.rows(
      `insert into osp_metadata.worker_registry (service_schema, manifest_path, revision, source, deployment_status, manifest, spec)
      select 'a', 'm', g, 'update', 'stopped', '{}', '{}' from generate_series(2, 60) as g`,
    );
    const { hint } = await refusal(rollback("a", 99));
    expect(hint).toMatch(/: 60, 59, [\d, ]* 42, 41; all of them: select revision, .* where service_schema = 'a' /);
    const [, query = ""] = /all of them: (.*)/.exec(hint ?? "") ?? [];
    expect(await database.rows(query)).toHaveLength(60);
  });
});

test("a spec that today's checks refuse is told by path, and what to do instead", async () => {
  await revisions("One", "Two");
  await database.rows(
    `update osp_metadata.worker_registry set spec = jsonb_set(spec, '{workflows,0,name}', '"not a name"') where revision = 1`,
  );
  expect(await refusal(rollback("a", 1))).toMatchObject({
    code: "23514",
    message:
      `Cannot roll service "a" back to revision 1, which today's checks of osp.services refuse: workflows[0].name: "not a name" must match ^[A-Za-z_$][A-Za-z0-9_$]{0,127}$`,
    hint: expect.stringContaining("choose another revision: 2, 1"),
  });
  expect(await intentOf("a")).toMatchObject({ revision: 2, source: "update" });
});

describe("in one transaction with other changes", () => {
  test("each is a revision, and the last one wins", async () => {
    await revisions("One", "Two");
    const client = await begin();
    await client.query(`update osp.services set service_name = 'Three'`);
    await client.query(`select osp.rollback('a', 1)`);
    expect((await client.query(`select revision, source from osp_metadata.service_intents`)).rows).toEqual([
      { revision: 4, source: "rollback" },
    ]);
    await client.query(`delete from osp.services`);
    await client.query(`select osp.rollback('a', 2)`);
    await client.query("commit");
    expect(await intentOf("a")).toMatchObject({ revision: 6, source: "rollback", rolled_back_to: 2, wanted: "run" });
    await handler(ring());
    expect((await registryOf(database, "a")).map(({ revision }) => revision)).toEqual([1, 2, 6]);
  });

  test("rolled back with it, it leaves no trace", async () => {
    await revisions("One", "Two");
    const before = [await serviceOf("a"), await intentOf("a")];
    const client = await begin();
    await client.query(`select osp.rollback('a', 1)`);
    await client.query("rollback");
    expect([await serviceOf("a"), await intentOf("a")]).toEqual(before);
  });

  test("the whole fleet goes back in one statement", async () => {
    for (const schema of ["a", "b", "c"]) await insertService(database, schema, { name: "Good" });
    await handler(ring());
    await rename("Bad");
    await handler(ring());
    await database.rows(`select osp.rollback(service_schema, 1) from osp.services order by service_schema`);
    expect(
      await database.rows(
        `select service_schema, service_name, revision, source from osp.services join osp_metadata.service_intents using (service_schema) order by 1`,
      ),
    ).toEqual(["a", "b", "c"].map((service_schema) => ({
      service_schema,
      service_name: "Good",
      revision: 3,
      source: "rollback",
    })));
  });
});

describe("beside another session", () => {
  test("two at once make two revisions, one after the other", async () => {
    await revisions("One", "Two");
    const first = await begin();
    await first.query(`select osp.rollback('a', 1)`);
    const second = rollback("a", 2);
    await untilBlocked(database, first);
    await first.query("commit");
    expect(await second).toMatchObject([{ revision: 4 }]);
    expect(await intentOf("a")).toMatchObject({ source: "rollback", rolled_back_to: 2 });
    expect(await serviceOf("a")).toMatchObject({ service_name: "Two" });
  });

  test("two at once bring a deleted service back once", async () => {
    await revisions("One", "Two");
    await database.rows(`delete from osp.services`);
    const first = await begin();
    await first.query(`select osp.rollback('a', 1)`);
    const second = rollback("a", 2);
    await untilBlocked(database, first);
    await first.query("commit");
    expect(await second).toMatchObject([{ revision: 5 }]);
    expect(await database.rows(`select service_name from osp.services`)).toEqual([{ service_name: "Two" }]);
  });

  test.each([
    ["an edit", `update osp.services set service_name = 'Edited'`],
    ["a delete", `delete from osp.services`],
    ["a redeploy", `select osp.redeploy('a')`],
    ["a truncate", `truncate osp.services`],
  ])("it waits for %s and is the newest", async (_title, statement) => {
    await revisions("One", "Two");
    const other = await begin();
    await other.query(statement);
    const rolledBack = rollback("a", 1);
    await untilBlocked(database, other);
    await other.query("commit");
    expect(await rolledBack).toMatchObject([{ revision: 4 }]);
    expect(await intentOf("a")).toMatchObject({ source: "rollback", wanted: "run" });
    expect(await serviceOf("a")).toMatchObject({ service_name: "One" });
  });

  test.each([
    ["an edit", `update osp.services set service_name = 'Edited'`, "update"],
    ["a delete", `delete from osp.services`, "delete"],
    ["a redeploy", `select osp.redeploy('a')`, "redeploy"],
  ])("%s waits for it and is the newest", async (_title, statement, source) => {
    await revisions("One", "Two");
    const roller = await begin();
    await roller.query(`select osp.rollback('a', 1)`);
    const other = database.rows(statement);
    await untilBlocked(database, roller);
    await roller.query("commit");
    await other;
    expect(await intentOf("a")).toMatchObject({ revision: 4, source, rolled_back_to: null });
  });

  test("what is taken while it is open is enqueued, and the rollback after it", async () => {
    await revisions("One", "Two");
    await rename("Three");
    const taken = await queue.take();
    const roller = await begin();
    await roller.query(`select osp.rollback('a', 1)`);
    expect(await queue.enqueue(taken)).toEqual([]); // held by the rollback: not waited for
    await roller.query("commit");
    await database.rows(`update osp_metadata.service_intents set lease_expires_at = clock_timestamp()`);
    await handler(ring());
    expect(await registryOf(database, "a")).toMatchObject([{ revision: 1 }, { revision: 2 }, {
      revision: 4,
      source: "rollback",
      deployment_status: "pending",
      spec: { service_name: "One" },
    }]);
  });

  test("what was taken before it keeps its own facts", async () => {
    await revisions("One", "Two");
    await rollback("a", 1);
    const taken = await queue.take();
    await rename("Four");
    expect(await queue.enqueue(taken)).toMatchObject([{ revision: 3, is_newest: false }]);
    expect((await registryOf(database, "a")).at(-1)).toMatchObject({
      revision: 3,
      source: "rollback",
      rolled_back_to: 1,
      spec: { service_name: "One" },
    });
  });
});
