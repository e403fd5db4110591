import { beforeAll, expect, test } from "vitest";
import { z } from "zod";
import { runSupabaseCli } from "../../local/supabase-cli.ts";
import { useDatabase } from "../support/database.ts";

// Supabase's own advisors, of the pinned CLI. Which schemas are exposed it reads in supabase/config.toml: both of ours.
const database = useDatabase();
const adviceSchema = z.object({
  results: z.array(z.object({
    name: z.string(),
    level: z.enum(["INFO", "WARN", "ERROR"]),
    detail: z.string(),
  })),
});

beforeAll(async () => {
  // Without them an index that nobody has used yet is no finding, and every test passes.
  await database.rows(`insert into osp.services (service_schema, service_name, workflows)
    select 's' || g, 'S', '[{"name": "w", "activities": ["x"]}]' from generate_series(1, 50) as g`);
  await database.rows(`analyze`);
});

async function advise() {
  const target = [`--remote=${database.url}`, "--yes"];
  const answer = await runSupabaseCli([
    "db",
    "advisors",
    ...target,
    "--type",
    "all",
    "--level",
    "info",
    "--output-format",
    "json",
  ]);
  return adviceSchema.parse(JSON.parse(answer.slice(answer.indexOf("{")))).results;
}

test("they find nothing at WARN or above, and at INFO only indexes that nobody has used yet", async () => {
  expect((await advise()).filter(({ name }) => name !== "unused_index")).toEqual([]);
});

test("they look at both schemas: what is made wrong on purpose is found", async () => {
  await database.rows(`
    create table osp.open_to_all (id integer);
    create table osp_metadata.secrets_of_all (id integer primary key, api_key text);
    create view osp_metadata.as_owner as select * from osp.services;
    create function osp.loose() returns integer language sql as 'select 1';
    alter function osp.loose reset search_path;
    create table osp_metadata.referring (id integer primary key, to_id integer references osp_metadata.secrets_of_all (id));
    alter table osp_metadata.referring enable row level security;
    grant select on osp.open_to_all, osp_metadata.secrets_of_all, osp_metadata.as_owner to anon;
    grant usage on schema osp, osp_metadata to anon`);
  const found = (await advise()).map(({ name, level, detail }) => `${level} ${name} ${detail}`).join("\n");
  expect(found).toMatch(/ERROR rls_disabled_in_public .*osp\.open_to_all/);
  expect(found).toMatch(/ERROR rls_disabled_in_public .*osp_metadata\.secrets_of_all/);
  expect(found).toMatch(/ERROR security_definer_view .*osp_metadata\.as_owner/);
  expect(found).toMatch(/WARN function_search_path_mutable .*osp\.loose/);
  expect(found).toMatch(/INFO rls_enabled_no_policy .*osp_metadata\.referring/);
  expect(found).toMatch(/INFO no_primary_key .*osp\.open_to_all/);
  expect(found).toMatch(/INFO unindexed_foreign_keys .*osp_metadata\.referring/);
});
