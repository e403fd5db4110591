import type pg from "pg";
import { beforeAll, expect, test } from "vitest";
import { refusal, useDatabase } from "../support/database.ts";
import { callOf, readCatalog } from "../support/database-catalog.ts";
import { useRoleLogins } from "../support/role-logins.ts";
import { insertService } from "../support/services.ts";
import { functions, type Role } from "./access-cases.ts";

// What a login of a group role can make in its own session, and that must not reach what runs as the owner.
const database = useDatabase();
const people = ["osp_writer", "osp_deployer", "osp_analyst"] as const satisfies Role[];
const logins = useRoleLogins(database, people);
const CAUGHT = "ran as somebody else";

beforeAll(() => insertService(database, "a_service"));

/** A session in which every type, and whatever else pg_temp can hold, stands for code of the login's own. */
async function hostileSession(role: (typeof people)[number]): Promise<pg.Client> {
  const client = await logins.connect(role);
  await client.query(`
    create function pg_temp.watch() returns boolean language plpgsql as $$
    begin
      if current_user <> session_user then raise exception '${CAUGHT}: %', current_user; end if;
      return true;
    end $$;
    create function pg_temp.note() returns trigger language plpgsql as 'begin perform pg_temp.watch(); return null; end';
    do $$ declare base record; begin
      for base in select typname from pg_type where typnamespace = 'pg_catalog'::regnamespace and typtype = 'b' and typelem = 0
      loop execute format('create domain pg_temp.%I as pg_catalog.%I check (pg_temp.watch())', base.typname, base.typname); end loop;
    end $$`);
  for (
    const table of [
      "services",
      "service_intents",
      "worker_registry",
      "new_services",
      "old_services",
      "pg_roles",
      "pg_proc",
    ]
  ) {
    await client.query(`
      create table pg_temp.${table} (service_schema pg_catalog.text);
      create trigger note before insert or update or delete on pg_temp.${table} execute function pg_temp.note()`);
  }
  // Functions and operators are never looked for in pg_temp, unless somebody's search_path says so.
  await client.query(`
    create function pg_temp.count(pg_catalog.int4) returns pg_catalog.int8 language sql as 'select case when pg_temp.watch() then 1 end';
    create function pg_temp.format(pg_catalog.text, pg_catalog.text) returns pg_catalog.text language sql as 'select pg_temp.watch()::pg_catalog.text';
    create function pg_temp.equals(pg_catalog.text, pg_catalog.text) returns pg_catalog.bool language sql as 'select pg_temp.watch()';
    create operator pg_temp.= (leftarg = pg_catalog.text, rightarg = pg_catalog.text, function = pg_temp.equals);
    set search_path = pg_temp, pg_catalog`);
  return client;
}

/** Not null and of the right type, so that functions get as far as they can. */
function argument(type: string): string {
  const values: Record<string, string> = {
    text: `'a_service'`,
    integer: "1",
    bigint: "1",
    "double precision": "1",
    boolean: "true",
    uuid: `'${crypto.randomUUID()}'`,
    jsonb: `'[{"name": "w", "activities": ["x"]}]'`,
    "text[]": `'{a_service}'`,
    "timestamp with time zone": "now()",
  };
  // The names of the standard are Postgres' own whatever stands in pg_temp; the others are told apart by their schema.
  const isStandard = /^(integer|bigint|smallint|boolean|double precision|real|numeric|time|interval|character)/.test(
    type,
  );
  return `${values[type] ?? "null"}::${isStandard ? "" : "pg_catalog."}${type}`;
}

const writes = [
  `insert into osp.services (service_schema, service_name, workflows) values ('another', 'A', '[{"name": "w", "activities": ["x"]}]')`,
  `insert into osp.services (service_schema, service_name, workflows) values ('Bad', 'A', '[{"name": "w", "activities": ["x"]}]')`,
  `update osp.services set service_name = 'B'`,
  `update osp.services set enabled = false`,
  `delete from osp.services`,
  `truncate osp.services`,
  `select * from osp_metadata.worker_status`,
  `select * from osp_metadata.deployment_history`,
];

test.each(people)("%s runs nothing of its own as the owner, whatever it calls or writes", async (role) => {
  const client = await hostileSession(role);
  const callable = (await readCatalog(database)).functions.filter(({ name }) => functions[name]?.includes(role));
  for (const sql of [...callable.map((found) => callOf(found, argument)), ...writes]) {
    await client.query("begin");
    const { code = "", message = "" } = Object(await client.query(sql).catch((error: unknown) => error));
    await client.query("rollback");
    expect({ sql, message }).not.toMatchObject({ message: expect.stringContaining(CAUGHT) });
    expect({ sql, code }).toMatchObject({ code: expect.not.stringMatching(/^42(601|704|883|P01)$/) }); // it was called
  }
});

test.each(people)("%s says SQL to every function that it may call, and it stays a text", async (role) => {
  const client = await logins.connect(role);
  const callable = (await readCatalog(database)).functions.filter(({ name }) => functions[name]?.includes(role));
  for (
    const said of [
      "x'; drop table osp.services; --",
      "'||(select 1/0)||'",
      "%s %I %L %n$s",
      "\\' or true --",
      '"; --',
      "$$; --",
    ]
  ) {
    const quoted = (type: string) =>
      type === "text"
        ? client.escapeLiteral(said)
        : type === "text[]"
        ? `array[${client.escapeLiteral(said)}]`
        : argument(type);
    for (const found of callable) {
      await client.query("begin");
      const error: unknown = await client.query(callOf(found, quoted)).catch((refused: unknown) => refused);
      await client.query("rollback");
      // A syntax error, a division by zero or a missing object would mean that a part of it was run.
      const { code = "" } = Object(error);
      expect({ call: found.signature, said, code }).toMatchObject({
        code: expect.not.stringMatching(/^(42|22012|3F)/),
      });
    }
  }
  expect(await database.rows(`select service_schema from osp.services`)).toEqual([{ service_schema: "a_service" }]);
});

test("this test would notice: a function with an empty search_path runs a caller's type as its owner", async () => {
  await database.rows(`alter function osp.redeploy set search_path = ''`);
  const client = await hostileSession("osp_writer");
  expect((await refusal(client.query(`select osp.redeploy('a_service')`))).message).toBe(`${CAUGHT}: postgres`);
  await database.rows(`alter function osp.redeploy set search_path = pg_catalog, pg_temp`);
});

test.each([
  "standard_conforming_strings = off",
  "escape_string_warning = off",
  "transform_null_equals = on",
  "array_nulls = off",
  "quote_all_identifiers = on",
  "default_transaction_isolation = serializable",
  "IntervalStyle = sql_standard",
  "DateStyle = German",
])("a session with %s gets the verdict that everybody gets", async (setting) => {
  const client = await logins.connect("osp_writer");
  await client.query(`set ${setting}`);
  const insert = (schema: string, name: string) =>
    client.query(`insert into osp.services (service_schema, service_name, workflows) values ($1, $2, $3)`, [
      schema,
      name,
      `[{"name": "w", "activities": ["x"]}]`,
    ]);
  await client.query("begin");
  await insert("of_a_session", "A name");
  await client.query("rollback");
  for (const name of ["a\u0001b", "a\u001bb", "a\u007fb", "", "  "]) {
    expect(await refusal(insert("of_a_session", name))).toMatchObject({ code: "23514" });
  }
  expect(await refusal(insert("a\\b", "A name"))).toMatchObject({ code: "23514" });
  expect(await refusal(client.query(`select osp.redeploy('nobody')`))).toMatchObject({ code: "P0002" });
});

test("no role becomes another: not by set role, nor by what a session may say of itself", async () => {
  for (const role of people) {
    const client = await logins.connect(role);
    for (const other of ["postgres", "service_role", ...people.filter((one) => one !== role)]) {
      expect(await refusal(client.query(`set role ${other}`))).toMatchObject({ code: "42501" });
      expect(await refusal(client.query(`select set_config('role', $1, false)`, [other]))).toMatchObject({
        code: "42501",
      });
      expect(await refusal(client.query(`set session authorization ${other}`))).toMatchObject({ code: "42501" });
    }
    expect(await refusal(client.query(`set session_replication_role = replica`))).toMatchObject({ code: "42501" });
  }
});

test("who asked is written by the database, whatever the session claims", async () => {
  const client = await logins.connect("osp_writer");
  await client.query(`set application_name = 'postgres'; set osp_metadata.requesting_role = 'postgres'`);
  await client.query(`update osp.services set service_name = 'Renamed' where service_schema = 'a_service'`);
  const asked = () =>
    database.rows(`select requested_by from osp_metadata.service_intents where service_schema = 'a_service'`);
  expect(await asked()).toEqual([{ requested_by: logins.nameOf("osp_writer") }]);
  await client.query(
    `set role osp_writer; update osp.services set service_name = 'Again' where service_schema = 'a_service'`,
  );
  expect(await asked()).toEqual([{ requested_by: "osp_writer" }]);
});
