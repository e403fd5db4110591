import { randomBytes } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import pg from "pg";
import { expect, inject, test } from "vitest";
import { useDatabase } from "../support/database.ts";
import { insertService } from "../support/services.ts";

const database = useDatabase();
const migrations = new URL("../../supabase/migrations/", import.meta.url);

/** Functions that are open to everybody, or that take their caller's temporary schema for what they mean. */
const UNSAFE = `
  select oid::regprocedure::text as signature
  from pg_proc
  where pronamespace in ('osp'::regnamespace, 'osp_metadata'::regnamespace) and (
    not coalesce(proconfig @> array['search_path=pg_catalog, pg_temp'], false)
    or exists (select from aclexplode(coalesce(proacl, acldefault('f', proowner))) where grantee = 0)
  )`;
const MEND =
  "make it with `set search_path = pg_catalog, pg_temp` (with '' the caller's pg_temp comes first for types " +
  "and tables), and revoke execute from public in its migration: not every server lets event triggers see to it";

test("no function is open to everybody, or takes its caller's temporary schema for what it means", async () => {
  expect(await database.rows(UNSAFE), MEND).toEqual([]);
});

test("a function that is made later, or made anew, is closed at once; one of another schema stays as it is", async () => {
  const made = async (kind: string, name: string) => {
    const body = kind === "function" ? "returns integer language sql return 1" : "language sql as 'select 1'";
    await database.rows(`create or replace ${kind} ${name}() ${body}`);
    const [row] = await database.rows(
      `select coalesce(proacl, acldefault('f', proowner))::text like '%{=X%' or proacl is null as is_open, proconfig as settings
       from pg_proc where oid = $1::regprocedure`,
      [`${name}()`],
    );
    return row;
  };
  const closed = { is_open: false, settings: ["search_path=pg_catalog, pg_temp"] };
  expect(await made("function", "osp.later")).toEqual(closed);
  expect(await made("procedure", "osp_metadata.later")).toEqual(closed);
  await database.rows(`grant execute on function osp.later to public`);
  expect(await made("function", "osp.later")).toEqual(closed);
  expect(await made("function", "public.later")).toEqual({ is_open: true, settings: null });
});

test("where the migrations' role may make no event trigger, they do without", async () => {
  const suffix = randomBytes(4).toString("hex");
  const [owner, name] = [`osp_test_owner_${suffix}`, `osp_test_hosted_${suffix}`];
  await database.rows(`create role ${owner} login createrole bypassrls password 'osp_test'`);
  for (const role of ["osp_writer", "osp_deployer", "osp_analyst"]) {
    await database.rows(`grant ${role} to ${owner} with admin option`); // on its own server it would have made them
  }
  await database.rows(`create database ${name} owner ${owner}`);
  const url = new URL(inject("postgresUrl"));
  Object.assign(url, { username: owner, password: "osp_test", pathname: `/${name}` });
  const client = new pg.Client({ connectionString: url.href });
  const notices: string[] = [];
  client.on("notice", (notice) => notices.push(String(notice.message)));
  try {
    await client.connect();
    for (const file of readdirSync(migrations).sort()) {
      await client.query(readFileSync(new URL(file, migrations), "utf8"));
    }
    expect(notices).toContainEqual(expect.stringMatching(/event trigger.*revoke execute from public/));
    expect((await client.query(UNSAFE)).rows, MEND).toEqual([]);
    const asOwner = { rows: async (sql: string, values?: unknown[]) => (await client.query(sql, values)).rows };
    await insertService({ ...database, ...asOwner }, "a_service");
    expect(await asOwner.rows(`select service_schema, source from osp_metadata.service_intents`)).toEqual([
      { service_schema: "a_service", source: "insert" },
    ]);
  } finally {
    await client.end();
    await database.rows(`drop database if exists ${name} with (force)`);
    await database.rows(`drop owned by ${owner}; drop role ${owner}`);
  }
});
