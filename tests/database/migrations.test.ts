import { execa } from "execa";
import { readdirSync, readFileSync } from "node:fs";
import pg from "pg";
import { expect, inject, test } from "vitest";
import { migrate } from "../../local/database.ts";
import { useDatabase } from "../support/database.ts";

const migrated = useDatabase();
const directory = new URL("../../supabase/migrations/", import.meta.url);
const files = readdirSync(directory).sort();

test("a migration that is applied again changes nothing and fails nowhere", async () => {
  const describeAll =
    `select n.nspname, c.relname, c.relkind, c.relacl::text from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname like 'osp%' order by 1, 2`;
  const before = await migrated.rows(describeAll);
  for (const name of files) await migrated.rows(readFileSync(new URL(name, directory), "utf8"));
  expect(await migrated.rows(describeAll)).toEqual(before);
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
