import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import postgres from "postgres";
import { afterAll, beforeEach, describe, expect, test } from "vitest";
import { refusal, useDatabase } from "../support/database.ts";
import { createTestHandler, ring } from "../support/edge-function.ts";
import { insertService, registryOf } from "../support/services.ts";

const database = useDatabase();
const handler = createTestHandler(database);
const MANY = 10_000;
const workflows = `[{"name": "w", "activities": ["x"]}]`;
beforeEach(async () => {
  await database.rows(`truncate osp.services`);
  await database.rows(`truncate osp_metadata.service_intents`);
  await database.rows(`truncate osp_metadata.worker_registry cascade`);
});

/** How many intents there are of each kind. */
const summary = () =>
  database.rows(
    `select revision, wanted, source, count(*)::integer as services, count(distinct deployment_id)::integer as ids
    from osp_metadata.service_intents group by 1, 2, 3 order by 1, 2, 3`,
  );
const intentOf = async (schema: string) =>
  (await database.rows(
    `select revision, wanted, source from osp_metadata.service_intents where service_schema = $1`,
    [schema],
  ))[0];

test("10,000 rows in one statement are a revision each, through their whole life", async () => {
  const insert = `insert into osp.services (service_schema, service_name, workflows)
    select 's' || g, 'S', '${workflows}' from generate_series(1, ${MANY}) as g`;
  const life = [
    [insert, 1, "run", "insert"],
    [`update osp.services set service_name = 'T'`, 2, "run", "update"],
    [`update osp.services set service_name = service_name, workflows = workflows, options = '{}'`, 2, "run", "update"],
    [`select osp.redeploy(service_schema) from osp.services order by service_schema`, 3, "run", "redeploy"],
    [`update osp.services set enabled = false`, 4, "stop", "disable"],
    [`update osp.services set service_name = 'U'`, 4, "stop", "disable"],
    [`update osp.services set enabled = true`, 5, "run", "enable"],
    [`delete from osp.services`, 6, "stop", "delete"],
    [insert, 7, "run", "insert"],
    [`truncate osp.services`, 8, "stop", "delete"],
    [`truncate osp.services`, 8, "stop", "delete"],
  ] as const;
  for (const [statement, revision, wanted, source] of life) {
    await database.rows(statement);
    expect(await summary(), statement).toEqual([{ revision, wanted, source, services: MANY, ids: MANY }]);
  }
}, 300_000);

test(
  "10,000 rows of which one is bad are no revision at all, and 10,000 good ones are enqueued once each",
  async () => {
    const insert = `insert into osp.services (service_schema, service_name, workflows)
    select 's' || g, case when g = $1 then '' else 'S' end, '${workflows}' from generate_series(1, ${MANY}) as g`;
    expect(await refusal(database.rows(insert, [MANY - 1]))).toMatchObject({ code: "23514" });
    expect(await summary()).toEqual([]);
    await database.rows(insert, [0]);
    for (let run = 0; run < MANY / 500; run++) expect((await handler(ring())).status).toBe(200);
    expect(
      await database.rows(
        `select r.revision, r.deployment_status, count(*)::integer as services, count(distinct r.service_schema)::integer as schemas
      from osp_metadata.worker_registry as r
      inner join osp_metadata.service_intents as i on i.deployment_id = r.id and i.enqueued_revision = r.revision
      group by 1, 2`,
      ),
    ).toEqual([{ revision: 1, deployment_status: "pending", services: MANY, schemas: MANY }]);
  },
  300_000,
);

describe("COPY", () => {
  const sql = postgres(database.url, { max: 1, onnotice: () => {} });
  afterAll(() => sql.end());

  /** COPY FROM STDIN, as psql's \copy and a restore send it. */
  async function copyIn(table: string, lines: Iterable<string>): Promise<void> {
    const writable = await sql.unsafe(`copy ${table} from stdin`).writable();
    await pipeline(Readable.from(lines), writable);
  }
  async function copyOut(table: string): Promise<string[]> {
    const chunks: Buffer[] = [];
    for await (const chunk of await sql.unsafe(`copy ${table} to stdout`).readable()) chunks.push(chunk);
    return [Buffer.concat(chunks).toString("utf8")];
  }
  const line = (schema: string, name = "S") => `${schema}\t${name}\t${workflows}\n`;

  test("of 10,000 rows makes a revision each", async () => {
    await copyIn(
      "osp.services (service_schema, service_name, workflows)",
      Array.from({ length: MANY }, (_, index) => line(`s${index}`)),
    );
    expect(await summary()).toEqual([{ revision: 1, wanted: "run", source: "insert", services: MANY, ids: MANY }]);
  });

  test("of which one row is bad makes none", async () => {
    // By a program of the server: the driver's stream does not end when the server refuses what it sends.
    const lines = `${line("good")}${line("bad", "")}`.replaceAll("\t", "\\t").replaceAll("\n", "\\n");
    const program = `printf '${lines}'`.replaceAll("'", "''");
    const copy = `copy osp.services (service_schema, service_name, workflows) from program '${program}'`;
    expect(await refusal(database.rows(copy))).toMatchObject({
      code: "23514",
      message: expect.stringContaining("service_name"),
    });
    expect(await summary()).toEqual([]);
  });

  test("of services alone into an empty database, without triggers: reconcile requests them all, disabled ones too", async () => {
    for (const [schema, enabled] of [["on", true], ["off", false]] as const) {
      await insertService(database, schema, { enabled });
    }
    const services = await copyOut("osp.services");
    await database.rows(`truncate osp.services, osp_metadata.service_intents`);
    await sql`set session_replication_role = replica`;
    await copyIn("osp.services", services);
    await sql`set session_replication_role = origin`;
    // TRUNCATE made intents of what it deleted; the database that is restored into has none.
    await database.rows(`delete from osp_metadata.service_intents`);
    expect(await database.rows(`select osp_metadata.reconcile() as waiting`)).toEqual([{ waiting: 2 }]);
    expect(await intentOf("on")).toEqual({ revision: 1, wanted: "run", source: "reconcile" });
    expect(await intentOf("off")).toEqual({ revision: 1, wanted: "stop", source: "disable" });
  });

  test("of all tables as a backup has them, without triggers: nothing is requested, and the next edit goes on numbering", async () => {
    for (const schema of ["kept", "deleted"]) await insertService(database, schema);
    await handler(ring());
    await database.rows(`delete from osp.services where service_schema = 'deleted'`);
    await database.rows(`update osp.services set service_name = 'Two'`);
    await handler(ring());
    const tables = ["osp.services", "osp_metadata.service_intents", "osp_metadata.worker_registry"];
    const backup = new Map<string, string[]>();
    for (const table of tables) backup.set(table, await copyOut(table));
    await sql`set session_replication_role = replica`;
    await sql.unsafe(`truncate ${tables.join(", ")} cascade`);
    for (const [table, lines] of backup) await copyIn(table, lines);
    await sql`set session_replication_role = origin`;

    expect(await database.rows(`select osp_metadata.reconcile() as waiting`)).toEqual([{ waiting: 0 }]);
    await database.rows(`update osp.services set service_name = 'Three'`);
    await insertService(database, "deleted");
    expect([await intentOf("kept"), await intentOf("deleted")]).toMatchObject([
      { revision: 3, source: "update" },
      { revision: 3, source: "insert" },
    ]);
  });
});

describe("one transaction", () => {
  test("that inserts, changes and deletes a row wants a stop, numbered after all three", async () => {
    const client = await database.connect();
    await client.query("begin");
    await client.query(
      `insert into osp.services (service_schema, service_name, workflows) values ('a', 'A', '${workflows}')`,
    );
    await client.query(`update osp.services set service_name = 'B'`);
    await client.query(`delete from osp.services`);
    await client.query("commit");
    await client.end();
    expect(await intentOf("a")).toEqual({ revision: 3, wanted: "stop", source: "delete" });
    expect(await (await handler(ring())).json()).toMatchObject({ taken: 1, enqueued: 1, remaining: 0 });
    expect(await registryOf(database, "a")).toMatchObject([
      { revision: 3, source: "delete", deployment_status: "pending", manifest: null, spec: null },
    ]);
  });

  test("that deletes a row and inserts it again wants it to run, as the new row says", async () => {
    await insertService(database, "a");
    await handler(ring());
    await database.rows(`begin; delete from osp.services;
      insert into osp.services (service_schema, service_name, workflows) values ('a', 'New', '${workflows}'); commit`);
    expect(await intentOf("a")).toEqual({ revision: 3, wanted: "run", source: "insert" });
    await handler(ring());
    expect(await registryOf(database, "a")).toMatchObject([
      { revision: 1, deployment_status: "stopped" },
      { revision: 3, deployment_status: "pending", spec: { service_name: "New" } },
    ]);
  });

  test("whose savepoint is rolled back keeps what was before it", async () => {
    await database.rows(`begin;
      insert into osp.services (service_schema, service_name, workflows) values ('a', 'A', '${workflows}');
      savepoint before; delete from osp.services; rollback to savepoint before; commit`);
    expect(await intentOf("a")).toEqual({ revision: 1, wanted: "run", source: "insert" });
  });
});

describe("a statement that inserts some and changes others", () => {
  const values =
    `values ('same', 'A Service', '${workflows}'::jsonb), ('other', 'Other', '${workflows}'), ('new', 'New', '${workflows}')`;
  const expectOnlyWhatChanged = async () =>
    expect(
      await database.rows(
        `select service_schema, revision, source from osp_metadata.service_intents order by service_schema`,
      ),
    ).toEqual([
      { service_schema: "new", revision: 1, source: "insert" },
      { service_schema: "off", revision: 1, source: "insert" },
      { service_schema: "other", revision: 2, source: "update" },
      { service_schema: "same", revision: 1, source: "insert" },
    ]);
  beforeEach(async () => {
    for (const schema of ["same", "other", "off"]) {
      await insertService(database, schema, { workflows: JSON.parse(workflows), enabled: schema !== "off" });
    }
  });

  test("on conflict do update", async () => {
    await database.rows(
      `insert into osp.services (service_schema, service_name, workflows) ${values}
      on conflict (service_schema) do update set service_name = excluded.service_name, workflows = excluded.workflows`,
    );
    await expectOnlyWhatChanged();
  });

  test("merge", async () => {
    await database.rows(
      `merge into osp.services as s using (${values}) as n (service_schema, service_name, workflows) on s.service_schema = n.service_schema
      when matched then update set service_name = n.service_name, workflows = n.workflows
      when not matched then insert (service_schema, service_name, workflows) values (n.service_schema, n.service_name, n.workflows)`,
    );
    await expectOnlyWhatChanged();
  });

  test("merge that also deletes", async () => {
    await database.rows(
      `merge into osp.services as s using (${values}) as n (service_schema, service_name, workflows) on s.service_schema = n.service_schema
      when matched then delete
      when not matched then insert (service_schema, service_name, workflows) values (n.service_schema, n.service_name, n.workflows)`,
    );
    expect(await intentOf("same")).toEqual({ revision: 2, wanted: "stop", source: "delete" });
    expect(await intentOf("new")).toEqual({ revision: 1, wanted: "run", source: "insert" });
  });

  test("on conflict do nothing changes nothing that is there", async () => {
    await database.rows(
      `insert into osp.services (service_schema, service_name, workflows) ${values} on conflict do nothing`,
    );
    expect(await intentOf("other")).toMatchObject({ revision: 1 });
    expect(await intentOf("new")).toMatchObject({ revision: 1 });
  });
});

describe("no statement changes a service's name, and none of its rows is changed", () => {
  test.each([
    ["update", `update osp.services set service_name = 'X', service_schema = service_schema || '_x'`],
    [
      "on conflict do update",
      `insert into osp.services (service_schema, service_name, workflows) values ('a', 'A', '${workflows}')
      on conflict (service_schema) do update set service_name = 'X', service_schema = 'c'`,
    ],
    [
      "merge",
      `merge into osp.services as s using (values ('a')) as n (service_schema) on s.service_schema = n.service_schema
      when matched then update set service_name = 'X', service_schema = 'c'`,
    ],
  ])("%s", async (_title, statement) => {
    for (const schema of ["a", "b"]) await insertService(database, schema);
    expect(await refusal(database.rows(statement))).toMatchObject({
      code: "23514",
      message: expect.stringMatching(/^service_schema: "a" cannot become "(a_x|c)"/),
      hint: expect.stringContaining("Insert a row with the new service_schema"),
    });
    expect(await database.rows(`select distinct service_name from osp.services`)).toEqual([
      { service_name: "A Service" },
    ]);
    expect(await summary()).toMatchObject([{ revision: 1, services: 2 }]);
  });
});
