import { execa } from "execa";
import { readdirSync, readFileSync } from "node:fs";
import pg from "pg";
import { expect, inject, test } from "vitest";
import { migrate } from "../../local/database.ts";
import { useDatabase } from "../support/database.ts";

const migrated = useDatabase();
const directory = new URL("../../supabase/migrations/", import.meta.url);
const files = readdirSync(directory).sort();

/** All that the migrations make in our schemas, with who may do what. */
const describeAll = `
  select format('%s %s %s', c.relkind, c.oid::regclass, c.relacl) as made from pg_class as c
  where c.relnamespace::regnamespace::text like 'osp%'
  union all
  select format('%s.%s %s', a.attrelid::regclass, a.attname, format_type(a.atttypid, a.atttypmod)) from pg_attribute as a
  inner join pg_class as c on c.oid = a.attrelid
  where c.relnamespace::regnamespace::text like 'osp%' and a.attnum > 0 and not a.attisdropped
  union all
  select format('%s %s', pg_get_functiondef(p.oid), p.proacl) from pg_proc as p where p.pronamespace::regnamespace::text like 'osp%'
  union all
  select format('%s %s %s', conrelid::regclass, conname, pg_get_constraintdef(oid)) from pg_constraint
  where connamespace::regnamespace::text like 'osp%'
  union all
  select format('%s %s', tgrelid::regclass, pg_get_triggerdef(oid)) from pg_trigger
  where tgrelid::regclass::text like 'osp%' and not tgisinternal
  union all
  select format('%s %s %s %s', tablename, policyname, roles, cmd) from pg_policies where schemaname like 'osp%'
  order by 1`;

test("each migration that is applied twice makes what it makes once, and fails nowhere", async () => {
  const name = `osp_twice_${process.pid}`;
  await migrated.rows(`create database ${name}`);
  const client = new pg.Client({ connectionString: inject("postgresUrl").replace(/postgres$/, name) });
  try {
    await client.connect();
    for (const file of files) {
      const sql = readFileSync(new URL(file, directory), "utf8");
      for (const time of ["first", "second"]) {
        await client.query(sql).catch((error: unknown) => {
          throw new Error(`${file} fails when it is applied for the ${time} time`, { cause: error });
        });
      }
    }
    const once = await migrated.rows(describeAll);
    expect(once.length).toBeGreaterThan(100);
    expect((await client.query(describeAll)).rows).toEqual(once);
  } finally {
    await client.end();
    await migrated.rows(`drop database ${name} with (force)`);
  }
});

test("the Supabase CLI applies them to an empty database, and again, and finds nothing at WARN", async () => {
  const server = inject("postgresUrl");
  const name = `osp_push_${process.pid}`;
  await migrated.rows(`create database ${name}`);
  const url = server.replace(/postgres$/, name);
  try {
    await migrate(url);
    await migrate(url);
    const client = new pg.Client({ connectionString: url });
    await client.connect();
    const { rows } = await client.query(`select count(*)::int as applied from supabase_migrations.schema_migrations`);
    await client.end();
    expect(rows).toEqual([{ applied: files.length }]);
    const advice = await execa("supabase", [
      "db",
      "advisors",
      `--remote=${url}`,
      "--type",
      "all",
      "--level",
      "info",
      "--fail-on",
      "warn",
      "--yes",
    ], {
      preferLocal: true,
      cwd: new URL("../..", import.meta.url),
      reject: false,
      all: true,
      stdin: "ignore",
      env: { SUPABASE_TELEMETRY_DISABLED: "1", DO_NOT_TRACK: "1", PGSSLMODE: "disable" },
    });
    expect(advice.exitCode, advice.all).toBe(0);
  } finally {
    await migrated.rows(`drop database ${name} with (force)`);
  }
});
