import { createClient } from "@supabase/supabase-js";
import pg from "pg";
import { beforeEach, describe, expect, test } from "vitest";
import { useApi } from "../client/api.ts";
import { KEYS } from "../local/stand.ts";
import { useDatabase } from "../support/database.ts";
import { createTestHandler, ring } from "../support/edge-function.ts";
import { insertService } from "../support/services.ts";

const database = useDatabase();
const api = useApi(database);
const handler = createTestHandler(database);
const workflows = [{ name: "w", activities: ["x"] }];
beforeEach(async () => {
  await database.rows(`delete from osp.services`);
  await database.rows(`delete from osp_metadata.service_intents`);
  await database.rows(`delete from osp_metadata.worker_registry`);
});

/** Who and what each revision of service `s` is ascribed to, when it has been enqueued. */
async function requests() {
  await handler(ring());
  return await database.rows(
    `select source, requested_by from osp_metadata.deployment_history where service_schema = 's' order by revision`,
  );
}

const insert = `insert into osp.services (service_schema, service_name, workflows) values ('s', 'S', '${
  JSON.stringify(workflows)
}')`;

test("through the Data API it is service_role, by whatever request", async () => {
  const osp = createClient(api.url, KEYS.SECRET_KEY, { auth: { persistSession: false } }).schema("osp");
  const expected: { source: string; requested_by: string }[] = [];
  const steps: [string, () => PromiseLike<{ error: unknown }>][] = [
    ["insert", () => osp.from("services").insert({ service_schema: "s", service_name: "S", workflows })],
    ["update", () => osp.from("services").update({ service_name: "T" }).eq("service_schema", "s")],
    ["update", () =>
      osp.from("services").upsert({ service_schema: "s", service_name: "U", workflows }, {
        onConflict: "service_schema",
      })],
    ["disable", () => osp.from("services").update({ enabled: false }).eq("service_schema", "s")],
    ["enable", () => osp.rpc("deploy_service", { service_schema: "s", service_name: "V", workflows })],
    ["redeploy", () => osp.rpc("redeploy", { schema: "s" })],
    ["rollback", () => osp.rpc("rollback", { schema: "s", to_revision: 1 })],
    ["delete", () => osp.from("services").delete().eq("service_schema", "s")],
  ];
  for (const [source, request] of steps) {
    expect((await request()).error).toBeNull();
    expected.push({ source, requested_by: "service_role" });
    expect(await requests()).toEqual(expected);
  }
});

describe("by SQL it is the role that the session took on", () => {
  const asWriter = async (prepare: string, statement: string) => {
    const client = await database.connect();
    await client.query(`begin; ${prepare}; ${statement}; commit`);
    await client.end();
    return await requests();
  };
  test.each([
    ["set role", `set role osp_writer`, "osp_writer"],
    ["set local role", `set local role service_role`, "service_role"],
    ["none", `select`, "postgres"],
  ])("%s", async (_title, prepare, requested_by) => {
    expect(await asWriter(prepare, insert)).toEqual([{ source: "insert", requested_by }]);
  });

  test("a login that is a member of osp_writer is named itself", async () => {
    const name = `osp_login_${process.pid}`;
    await database.rows(`create role ${name} login password 'secret' in role osp_writer`);
    const client = new pg.Client({ connectionString: database.url.replace("postgres:postgres@", `${name}:secret@`) });
    try {
      await client.connect();
      await client.query(insert);
      await client.query(`select osp.redeploy('s')`);
    } finally {
      await client.end();
      await database.rows(`drop role ${name}`);
    }
    expect(await requests()).toEqual([{ source: "redeploy", requested_by: name }]);
  });

  test("what a function of another owner does is ascribed to who called it", async () => {
    await database.rows(
      `create function public.write_service() returns void language sql security definer set search_path = ''
      begin atomic ${insert}; end`,
    );
    expect(await asWriter(`set local role osp_writer`, `select public.write_service()`)).toEqual([
      { source: "insert", requested_by: "osp_writer" },
    ]);
  });
});

test("what reconcile requests is ascribed to the deployer that ran it", async () => {
  await insertService(database, "s");
  await handler(ring());
  await database.rows(`begin; set local session_replication_role = replica; delete from osp.services; commit`);
  await database.deployerPool(1).query(`select osp_metadata.reconcile()`);
  expect(await requests()).toEqual([
    { source: "insert", requested_by: "postgres" },
    { source: "delete", requested_by: "osp_test_deployer" },
  ]);
});
