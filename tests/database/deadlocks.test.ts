import pg from "pg";
import { beforeEach, expect, onTestFinished, test } from "vitest";
import { useDatabase } from "../support/database.ts";
import { createTestHandler, ring } from "../support/edge-function.ts";
import { untilBlocked } from "../support/locks.ts";
import { insertService } from "../support/services.ts";

const database = useDatabase();
const handler = createTestHandler(database);
const SCHEMAS = ["a", "b", "c", "d", "e", "f"];
beforeEach(async () => {
  await database.rows(`delete from osp.services`);
  await database.rows(`delete from osp_metadata.service_intents`);
  await database.rows(`delete from osp_metadata.worker_registry`);
});

/** A session of its own. One that is the victim of a deadlock is told so at once. */
async function openSession(): Promise<pg.Client> {
  const client = await database.connect();
  onTestFinished(() => client.end());
  await client.query(`set deadlock_timeout = '20ms'`);
  return client;
}

/** All rows, locked in this order, as a statement may find them. */
const ordered = (direction: "asc" | "desc") =>
  `with ordered as materialized (select id from osp.services order by service_schema ${direction} for update)`;

async function intents() {
  return await database.rows<{ service_schema: string; revision: number }>(
    `select service_schema, revision from osp_metadata.service_intents order by 1`,
  );
}

test("bulk statements that lock in opposite orders: a victim leaves nothing behind and goes through when repeated", async () => {
  for (const schema of SCHEMAS) await insertService(database, schema);
  const STATEMENTS = 40;
  const run = async (direction: "asc" | "desc") => {
    const session = await openSession();
    for (let done = 0; done < STATEMENTS;) {
      try {
        await session.query(
          `${ordered(direction)} update osp.services as s set service_name = $1 from ordered where s.id = ordered.id`,
          [`${direction} ${done}`],
        );
        done++;
      } catch (error) {
        if (!(error instanceof pg.DatabaseError) || error.code !== "40P01") throw error;
      }
    }
  };
  await Promise.all([run("asc"), run("desc")]);
  expect(await intents()).toEqual(
    SCHEMAS.map((service_schema) => ({ service_schema, revision: 1 + 2 * STATEMENTS })),
  );
});

test("transactions that change the same services in opposite orders: one is told, the other goes through", async () => {
  for (const schema of ["a", "b"]) await insertService(database, schema);
  const [one, two] = [await openSession(), await openSession()];
  const change = (session: pg.Client, schema: string) =>
    session.query(`update osp.services set service_name = 'Changed' where service_schema = $1`, [schema]);
  for (const session of [one, two]) await session.query("begin");
  await change(one, "a");
  await change(two, "b");
  const waiting = Promise.allSettled([change(one, "b")]);
  await untilBlocked(database, two);
  const [[first], [second]] = await Promise.all([waiting, Promise.allSettled([change(two, "a")])]);
  const [victim, winner] = first?.status === "rejected" ? [one, two] : [two, one];
  expect([first, second]).toContainEqual({ status: "rejected", reason: expect.objectContaining({ code: "40P01" }) });
  expect([first, second]).toContainEqual(expect.objectContaining({ status: "fulfilled" }));
  await victim.query("rollback");
  await winner.query("commit");
  expect(await intents()).toEqual([{ service_schema: "a", revision: 2 }, { service_schema: "b", revision: 2 }]);
});

test("statements that lock in one order, and all that OSP runs beside them, never meet in a deadlock", async () => {
  for (const schema of SCHEMAS) await insertService(database, schema);
  await database.rows(`update osp_metadata.retention set keep_days = 0, keep_revisions = 1`);
  onTestFinished(async () => void await database.rows(`update osp_metadata.retention set keep_days = null`));
  const values = SCHEMAS.map((schema) => `('${schema}', 'Again', '[{"name": "w", "activities": ["x"]}]'::jsonb)`);
  const statements = [
    `${
      ordered("asc")
    } update osp.services as s set service_name = 'N' || random() from ordered where s.id = ordered.id`,
    `${ordered("asc")} update osp.services as s set enabled = not enabled from ordered where s.id = ordered.id`,
    `${ordered("asc")} delete from osp.services as s using ordered where s.id = ordered.id`,
    `insert into osp.services (service_schema, service_name, workflows) values ${
      values.join(", ")
    } on conflict (service_schema)
      do update set service_name = excluded.service_name`,
    `select osp.deploy_service(service_schema, 'D', '[{"name": "w", "activities": ["x"]}]') from unnest('{${
      SCHEMAS.join(",")
    }}'::text[]) as service_schema`,
    `select osp.rollback(service_schema, revision) from (
      select service_schema, max(revision) as revision from osp_metadata.worker_registry where manifest is not null group by 1
    ) as newest order by service_schema`,
    `truncate osp.services`,
    `select osp_metadata.reconcile()`,
    `select osp_metadata.prune()`,
  ];
  const errors: string[] = [];
  const repeat = async (work: () => Promise<unknown>) => {
    for (let time = 0; time < 25; time++) {
      await work().catch((error: unknown) => errors.push(error instanceof Error ? error.message : String(error)));
    }
  };
  await Promise.all([
    ...statements.map(async (statement) => {
      const session = await openSession();
      await repeat(() => session.query(statement));
    }),
    repeat(() => handler(ring())),
    repeat(() => handler(ring())),
  ]);
  // What a rollback aims at may be pruned first, or never have been there.
  expect(errors.filter((message) => !message.startsWith("Cannot roll service"))).toEqual([]);
});

test("reconcile does not wait for a writer who edits what has no intent yet, nor the writer for reconcile", async () => {
  await database.rows(`begin; set local session_replication_role = replica;
    insert into osp.services (service_schema, service_name, workflows) select s, 'S', '[{"name": "w", "activities": ["x"]}]'
    from unnest('{a,b,c}'::text[]) as s; commit`);
  const writer = await openSession();
  await writer.query("begin");
  await writer.query(`update osp.services set service_name = 'Edited' where service_schema = 'b'`);
  const reconciler = await openSession();
  await reconciler.query("begin");
  await reconciler.query(`select osp_metadata.reconcile()`);
  const edited = writer.query(`update osp.services set service_name = 'Edited' where service_schema = 'a'`);
  await untilBlocked(database, reconciler);
  await reconciler.query("commit");
  await edited;
  await writer.query("commit");
  expect(
    await database.rows(`select service_schema, revision, source from osp_metadata.service_intents order by 1`),
  ).toEqual([
    { service_schema: "a", revision: 2, source: "update" },
    { service_schema: "b", revision: 1, source: "update" },
    { service_schema: "c", revision: 1, source: "reconcile" },
  ]);
});
