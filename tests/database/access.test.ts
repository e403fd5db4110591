import { describe, expect, test } from "vitest";
import { refusal, useDatabase } from "../support/database.ts";

const database = useDatabase();
const roles = ["anon", "authenticated", "service_role", "osp_writer", "osp_deployer", "osp_analyst"] as const;
type Role = (typeof roles)[number];

/** Each tried for real: what each object and verb is open to. Everybody else must be refused with 42501. */
const attempts: { what: string; sql: string; open: Role[] }[] = [
  { what: "read osp.services", sql: `select * from osp.services`, open: ["service_role", "osp_writer", "osp_analyst"] },
  {
    what: "insert into osp.services",
    sql:
      `insert into osp.services (service_schema, service_name, workflows) values ('a', 'A', '[{"name":"w","activities":["x"]}]')`,
    open: ["service_role", "osp_writer"],
  },
  {
    what: "update osp.services",
    sql: `update osp.services set service_name = 'B'`,
    open: ["service_role", "osp_writer"],
  },
  { what: "delete from osp.services", sql: `delete from osp.services`, open: ["service_role", "osp_writer"] },
  { what: "truncate osp.services", sql: `truncate osp.services`, open: ["osp_writer"] },
  { what: "ask for a redeploy", sql: `select osp.redeploy('there_is_none')`, open: ["service_role", "osp_writer"] },
  { what: "roll a service back", sql: `select osp.rollback('there_is_none', 1)`, open: ["service_role", "osp_writer"] },
  {
    what: "write a service by function",
    sql: `select osp.deploy_service('a', 'A', '[{"name":"w","activities":["x"]}]')`,
    open: ["service_role", "osp_writer"],
  },
  {
    what: "read worker_registry",
    sql: `select * from osp_metadata.worker_registry`,
    open: ["service_role", "osp_writer", "osp_deployer", "osp_analyst"],
  },
  {
    what: "insert into worker_registry",
    sql:
      `insert into osp_metadata.worker_registry (service_schema, manifest_path, revision, source) values ('a', 'm', 1, 'insert')`,
    open: [],
  },
  {
    what: "update worker_registry",
    sql: `update osp_metadata.worker_registry set logs = null`,
    open: ["osp_deployer"],
  },
  { what: "delete from worker_registry", sql: `delete from osp_metadata.worker_registry`, open: [] },
  {
    what: "read service_intents",
    sql: `select * from osp_metadata.service_intents`,
    open: ["service_role", "osp_writer", "osp_deployer", "osp_analyst"],
  },
  { what: "update service_intents", sql: `update osp_metadata.service_intents set attempts = 0`, open: [] },
  {
    what: "read deployment_attempts",
    sql: `select * from osp_metadata.deployment_attempts`,
    open: ["service_role", "osp_writer", "osp_deployer", "osp_analyst"],
  },
  { what: "delete from deployment_attempts", sql: `delete from osp_metadata.deployment_attempts`, open: [] },
  { what: "read platforms", sql: `select * from osp_metadata.platforms`, open: ["osp_deployer", "osp_analyst"] },
  { what: "update platforms", sql: `update osp_metadata.platforms set supervisor = null`, open: ["osp_deployer"] },
  {
    what: "read worker_status",
    sql: `select * from osp_metadata.worker_status`,
    open: ["service_role", "osp_writer", "osp_analyst"],
  },
  {
    what: "read deployment_history",
    sql: `select * from osp_metadata.deployment_history`,
    open: ["service_role", "osp_writer", "osp_analyst"],
  },
  { what: "take intents", sql: `select * from osp_metadata.take_intents()`, open: ["service_role"] },
  { what: "enqueue deployments", sql: `select * from osp_metadata.enqueue_deployments('[]')`, open: ["service_role"] },
  {
    what: "release intents",
    sql: `select osp_metadata.release_intents(gen_random_uuid(), '{}')`,
    open: ["service_role"],
  },
  { what: "reconcile", sql: `select osp_metadata.reconcile()`, open: ["osp_deployer"] },
  { what: "prune", sql: `select osp_metadata.prune()`, open: ["osp_deployer"] },
  { what: "read retention", sql: `select * from osp_metadata.retention`, open: ["osp_writer", "osp_analyst"] },
  { what: "change retention", sql: `update osp_metadata.retention set keep_days = 0`, open: [] },
  { what: "read pruned_objects", sql: `select * from osp_metadata.pruned_objects`, open: ["osp_analyst"] },
  {
    what: "have an object removed",
    sql: `insert into osp_metadata.pruned_objects (path, service_schema) values ('a.json', 'a')`,
    open: [],
  },
  { what: "take pruned objects", sql: `select * from osp_metadata.take_pruned_objects()`, open: ["service_role"] },
  {
    what: "forget pruned objects",
    sql: `select osp_metadata.forget_pruned_objects(gen_random_uuid(), '{}')`,
    open: ["service_role"],
  },
  { what: "record intents", sql: `select osp_metadata.record_intents('{a}', '{run}', '{insert}')`, open: [] },
  { what: "lock osp.services", sql: `select osp_metadata.lock_services()`, open: [] },
  { what: "ring", sql: `select osp_metadata.ring()`, open: [] },
];

describe.each(roles)("%s", (role) => {
  test.each(attempts)("$what", async ({ sql, open }) => {
    const client = await database.connect();
    await client.query("begin");
    await client.query(`set local role ${role}`);
    const tried = client.query(sql);
    if (open.includes(role)) {
      // Allowed: it succeeds, or fails for a reason of the matter (there is no such service).
      await tried.catch((error: { code?: string }) => expect(error.code).toBe("P0002"));
    } else expect(await refusal(tried)).toMatchObject({ code: "42501" });
    await client.end();
  });
});

test("every table, column, view and function has a comment", async () => {
  expect(
    await database.rows(`
    select c.relname || coalesce('.' || a.attname, '') as uncommented
    from pg_class as c
    left join pg_attribute as a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
    where c.relnamespace in ('osp'::regnamespace, 'osp_metadata'::regnamespace) and c.relkind in ('r', 'v')
      and (col_description(c.oid, a.attnum) is null or obj_description(c.oid, 'pg_class') is null)
    union all
    select p.oid::regprocedure::text from pg_proc as p
    where p.pronamespace in ('osp'::regnamespace, 'osp_metadata'::regnamespace) and obj_description(p.oid, 'pg_proc') is null`),
  ).toEqual([]);
});

test("every function has an empty search_path and row level security is on for every table", async () => {
  expect(
    await database.rows(`
    select p.oid::regprocedure::text from pg_proc as p
    where p.pronamespace in ('osp'::regnamespace, 'osp_metadata'::regnamespace) and not coalesce(p.proconfig::text like '%search_path=%', false)
    union all
    select c.oid::regclass::text from pg_class as c
    where c.relnamespace in ('osp'::regnamespace, 'osp_metadata'::regnamespace) and c.relkind = 'r' and not c.relrowsecurity`),
  ).toEqual([]);
});
