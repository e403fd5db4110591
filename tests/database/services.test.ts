import { describe, expect, test } from "vitest";
import { problemsOf } from "../../supabase/functions/_shared/problems.ts";
import { serviceSchema } from "../../supabase/functions/_shared/service.ts";
import { visible } from "../../supabase/functions/_shared/visible-text.ts";
import { refusal, useDatabase } from "../support/database.ts";
import { insertService } from "../support/services.ts";
import { jsonOf, parsedRow, serviceCases } from "./service-cases.ts";

const database = useDatabase();

function insert(row: Record<string, unknown>) {
  return database.rows(
    `insert into osp.services (service_schema, service_name, workflows, options) values ($1, $2, $3, $4)
     returning service_schema, service_name`,
    [row["service_schema"], row["service_name"], jsonOf(row["workflows"]), jsonOf(row["options"])],
  );
}

describe("SQL refuses a bad row with 23514, the path, the rule and an example, and keeps a good one as it is", () => {
  test.each(serviceCases)("$title", async ({ row, refused, onlyZod, sqlState = "23514" }) => {
    await database.rows(`delete from osp.services`);
    if (refused === undefined || onlyZod) {
      const { service_schema, service_name } = row;
      expect(await insert(row)).toEqual([{ service_schema, service_name: String(service_name).toWellFormed() }]);
      return;
    }
    const error = await refusal(insert(row));
    expect(error.code).toBe(sqlState);
    if (sqlState === "23514") {
      expect(error.message.slice(0, refused.path.length + 1)).toBe(`${refused.path}:`);
      expect(error.message).toMatch(refused.rule);
      expect(error.message).toBe(visible(error.message));
      expect(error.hint).toContain("insert into osp.services");
    }
    expect(await database.rows(`select from osp.services`)).toEqual([]);
  });
});

describe("zod refuses the same rows at the same path by the same rule", () => {
  test.each(serviceCases.filter(({ onlySql }) => !onlySql))("$title", ({ row, refused, zod = refused }) => {
    const input = parsedRow(row);
    const parsed = serviceSchema.safeParse(input);
    const problems = parsed.success ? [] : problemsOf(parsed.error, input);
    for (const { message } of problems) expect(message).toBe(visible(message));
    if (zod === undefined) expect(problems).toEqual([]);
    else expect(problems).toContainEqual({ path: zod.path, message: expect.stringMatching(zod.rule) });
  });
});

test("1 MB of jsonb is refused with its size", async () => {
  const error = await refusal(
    insertService(database, "huge", { options: { activities: { first: { endpoint: "x".repeat(1_048_576) } } } }),
  );
  expect(error).toMatchObject({
    code: "23514",
    message: expect.stringMatching(/^options: 10486\d\d bytes, must have at most 262144 bytes/),
  });
});

test("service_schema cannot be changed, and the hint says what to do instead", async () => {
  await insertService(database, "before");
  const error = await refusal(
    database.rows(`update osp.services set service_schema = 'after' where service_schema = 'before'`),
  );
  expect(error).toMatchObject({ code: "23514", hint: expect.stringContaining("Insert a row") });
});

describe("a service from before the rules of now", () => {
  const OLD = `update osp.services set options = $2 where service_schema = $1`;
  const SWITCH = `update osp.services set enabled = $2 where service_schema = $1 returning enabled`;
  const breaking = [{ replicas: 1000 }, { activities: { gone: {} } }, { code: "main" }, "red"];
  /** As a database holds it that was made before them. */
  async function insertOld(name: string, options: unknown): Promise<void> {
    await insertService(database, name);
    const client = await database.connect();
    await client.query("begin");
    await client.query("set local session_replication_role = replica");
    const checks = (await client.query<{ name: string; rule: string }>(
      `select conname as name, pg_get_constraintdef(oid) as rule from pg_constraint
      where conrelid = 'osp.services'::regclass and contype = 'c'`,
    )).rows;
    for (const check of checks) await client.query(`alter table osp.services drop constraint ${check.name}`);
    await client.query(OLD, [name, JSON.stringify(options)]);
    for (const check of checks) {
      await client.query(`alter table osp.services add constraint ${check.name} ${check.rule}`);
    }
    await client.query("commit");
  }

  test.each(breaking)("can be disabled, not enabled again, corrected and enabled: %j", async (options) => {
    await insertOld("old", options);
    expect(await refusal(database.rows(`update osp.services set service_name = 'Other' where service_schema = 'old'`)))
      .toMatchObject({ code: "23514" });
    expect(await database.rows(SWITCH, ["old", false])).toEqual([{ enabled: false }]);
    expect(await refusal(database.rows(SWITCH, ["old", true]))).toMatchObject({
      code: "23514",
      message: expect.stringMatching(/^options/),
    });
    expect(await refusal(database.rows(OLD, ["old", JSON.stringify({ replicas: 51 })]))).toMatchObject({
      message: "options.replicas: 51 must be from 1 to 50",
    });
    await database.rows(OLD, ["old", JSON.stringify({ replicas: 2 })]);
    expect(await database.rows(SWITCH, ["old", true])).toEqual([{ enabled: true }]);
    await database.rows(`delete from osp.services where service_schema = 'old'`);
  });

  test.each(breaking)("can be deleted: %j", async (options) => {
    await insertOld("old", options);
    await database.rows(`delete from osp.services where service_schema = 'old'`);
    expect(await database.rows(`select from osp.services where service_schema = 'old'`)).toEqual([]);
  });

  test.each(breaking)("is not inserted anew, disabled or not: %j", async (options) => {
    for (const enabled of [false, true]) {
      expect(
        await refusal(database.rows(
          `insert into osp.services (service_schema, service_name, workflows, options, enabled)
          values ('new', 'New', '[{"name": "doWork", "activities": ["first"]}]', $1, $2)`,
          [JSON.stringify(options), enabled],
        )),
      ).toMatchObject({ code: "23514", message: expect.stringMatching(/^options/) });
    }
  });
});

test("updated_at follows a change and stays at a no-op", async () => {
  await insertService(database, "touched");
  const read = async () =>
    (await database.rows<{ at: string }>(
      `select updated_at::text as at from osp.services where service_schema = 'touched'`,
    ))[0]?.at;
  const before = await read();
  await database.rows(`update osp.services set service_name = service_name where service_schema = 'touched'`);
  expect(await read()).toBe(before);
  await database.rows(`update osp.services set service_name = 'Other' where service_schema = 'touched'`);
  expect(await read()).not.toBe(before);
});
