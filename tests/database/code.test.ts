import { readFileSync } from "node:fs";
import { beforeEach, describe, expect, onTestFinished, test } from "vitest";
import { refusal, useDatabase } from "../support/database.ts";
import { createMemoryCode, createTestHandler, ring } from "../support/edge-function.ts";
import { untilBlocked } from "../support/locks.ts";
import { insertService, registryOf } from "../support/services.ts";

const database = useDatabase();
const [A, B] = ["a".repeat(64), "b".repeat(64)];
beforeEach(async () => {
  await database.rows(`truncate osp.services, osp_metadata.service_intents, osp_metadata.worker_registry cascade`);
  await database.rows(`delete from osp_metadata.service_code`);
  await database.rows(
    `update osp_metadata.retention set keep_days = null, keep_revisions = 10, keep_unused_code_days = 30`,
  );
});

const record = async (code = A, schema = "s", bytes = 1000) =>
  (await database.rows<{ kept: boolean }>(`select osp.record_code($1, $2, $3) as kept`, [schema, code, bytes]))[0]
    ?.kept;
const age = (days: number) =>
  database.rows(
    `update osp_metadata.service_code set pushed_at = pushed_at - make_interval(secs => $1::float8 * 86400),
       used_at = used_at - make_interval(secs => $1::float8 * 86400)`,
    [days],
  );
const take = async () => (await database.rows<{ path: string; lease_token: string }>(
  `select * from osp_metadata.take_unused_code()`,
));
const taken = async () => (await take()).map(({ path }) => path);
const use = async (code = A, schema = "s") =>
  (await database.rows<{ kept: boolean }>(`select osp_metadata.use_code($1, $2) as kept`, [schema, code]))[0]?.kept;
const forget = async (object: { path: string; lease_token: string } | undefined, reason: string | null = null) =>
  (await database.rows<{ count: number }>(`select osp_metadata.forget_unused_code($1, $2, $3) as count`, [
    object?.lease_token,
    [object?.path],
    reason,
  ]))[0]?.count;
const leaseEnds = () => database.rows(`update osp_metadata.service_code set lease_expires_at = clock_timestamp()`);
const count = async () =>
  (await database.rows<{ count: number }>(`select osp_metadata.count_unused_code() as count`))[0]?.count;

describe("set_code", () => {
  test("names the code in the row, as a new revision; the same code makes none", async () => {
    await insertService(database, "s", { options: { activity_timeout_seconds: 5 } });
    const set = (code: string | null) => database.rows(`select revision from osp.set_code('s', $1)`, [code]);
    const options = async () => (await database.rows(`select options from osp.services`))[0];
    expect(await set(A)).toEqual([{ revision: 2 }]);
    expect(await options()).toEqual({ options: { activity_timeout_seconds: 5, code: A } });
    expect(await set(A)).toEqual([{ revision: 2 }]);
    expect(await set(B)).toEqual([{ revision: 3 }]);
    expect(await set(null)).toEqual([{ revision: 4 }]);
    expect(await options()).toEqual({ options: { activity_timeout_seconds: 5 } });
    expect(await set(null)).toEqual([{ revision: 4 }]);
  });

  test("refuses what is no hash, and a service that is not there", async () => {
    await insertService(database, "s");
    expect(await refusal(database.rows(`select * from osp.set_code('s', 'latest')`))).toMatchObject({
      code: "23514",
      message: `options.code: "latest" must be 64 hex digits in lower case, as \`osp code push\` prints them`,
    });
    expect(await refusal(database.rows(`select * from osp.set_code(E'no\\u001b', $1)`, [A]))).toMatchObject({
      code: "P0002",
      message: `Cannot set the code of service "no\\u001b": osp.services has no such row`,
      hint: expect.stringContaining("insert into osp.services"),
    });
  });
});

test("record_code refuses what no archive is stored under", async () => {
  for (const [schema, code, bytes] of [["S", A, 1], ["s", "x", 1], ["s", A, 0]] as const) {
    expect(await refusal(database.rows(`select osp.record_code($1, $2, $3)`, [schema, code, bytes]))).toMatchObject({
      code: "23514",
    });
  }
});

describe("code is removed", () => {
  test("30 days after its last push, where nobody uses it; an earlier push does not count", async () => {
    await record();
    await age(29.9);
    expect(await taken()).toEqual([]);
    expect(await count()).toBe(0);
    await age(0.2);
    expect(await count()).toBe(1);
    expect(await record()).toBe(true);
    expect(await taken()).toEqual([]);
    await age(31);
    expect(await taken()).toEqual([`s/${A}.tar.gz`]);
  });

  test("never, where a row of osp.services names it", async () => {
    await record();
    await record(B);
    await insertService(database, "s", { options: { code: A } });
    await insertService(database, "other", { options: { code: B } }); // another service's: not this archive
    await age(1000);
    expect(await taken()).toEqual([`s/${B}.tar.gz`]);
  });

  test("not while a deployment names it that could be rolled back to, and after that was pruned", async () => {
    await record();
    await insertService(database, "s", { options: { code: A } });
    const handler = createTestHandler(database, { code: createMemoryCode(database, new Set([`s/${A}`])) });
    await handler(ring());
    await database.rows(`select osp.set_code('s', null)`);
    await handler(ring());
    expect(await registryOf(database, "s")).toMatchObject([{ deployment_status: "stopped" }, {}]);
    await age(1000);
    expect(await taken()).toEqual([]);
    await database.rows(`update osp_metadata.retention set keep_days = 0, keep_revisions = 1`);
    await database.rows(`select osp_metadata.prune()`);
    expect(await registryOf(database, "s")).toHaveLength(1);
    expect(await taken()).toEqual([`s/${A}.tar.gz`]);
  });

  test("a while after it was used last, however long ago it was pushed", async () => {
    await record();
    await age(1000);
    expect(await use()).toBe(true);
    expect(await taken()).toEqual([]);
    await age(31);
    expect(await taken()).toEqual([`s/${A}.tar.gz`]);
  });

  test("after as many days as retention says; null keeps it for ever", async () => {
    const keep = (days: number | null) =>
      database.rows(`update osp_metadata.retention set keep_unused_code_days = $1`, [days]);
    await record();
    await age(10_000);
    await keep(null);
    expect(await taken()).toEqual([]);
    await keep(10_001);
    expect(await taken()).toEqual([]);
    await keep(9_999);
    expect(await taken()).toEqual([`s/${A}.tar.gz`]);
    expect(await refusal(keep(0))).toMatchObject({
      code: "23514",
      message: "keep_unused_code_days: 0 must be from 1 to 36500",
      hint: expect.stringContaining("for ever"),
    });
  });

  test("by one at a time, and again when that one got lost", async () => {
    await record();
    await age(31);
    const [first] = await take();
    expect(await taken()).toEqual([]);
    await database.rows(`update osp_metadata.service_code set lease_expires_at = clock_timestamp()`);
    const [second] = await take();
    expect(await forget(first)).toBe(0); // too late: another has it
    expect(await forget(second)).toBe(1);
    expect(await database.rows(`select * from osp_metadata.service_code`)).toEqual([]);
  });

  test("not for a minute after Storage refused, and the reason is told", async () => {
    await record();
    await record(B);
    await age(31);
    const [object] = await take();
    await database.rows(`select osp_metadata.forget_unused_code($1, $2, 'Storage is away')`, [
      object?.lease_token,
      [object?.path],
    ]);
    await database.rows(`update osp_metadata.service_code set lease_token = null, lease_expires_at = null`);
    expect(await taken()).toEqual([]);
    expect(await count()).toBe(0);
    expect(await database.rows(`select last_error from osp_metadata.service_code where last_error is not null`))
      .toEqual([
        { last_error: "Storage is away" },
      ]);
    await database.rows(`update osp_metadata.service_code set last_error_at = last_error_at - interval '1 minute'`);
    expect(await taken()).toHaveLength(2);
  });
});

describe("who begins to use what is being removed", () => {
  test("is told, by push and by build alike, and nothing of it changes", async () => {
    await record();
    await age(31);
    const [object] = await take();
    expect(await use()).toBe(false);
    expect(await record()).toBe(false);
    expect(
      await database.rows(
        `select pushed_at < now() - interval '30 days' as old, used_at, lease_token from osp_metadata.service_code`,
      ),
    )
      .toEqual([{ old: true, used_at: null, lease_token: object?.lease_token }]);
    // Whoever removes it may be paused: that its lease is over is no reason to begin.
    await database.rows(`update osp_metadata.service_code set lease_expires_at = clock_timestamp()`);
    expect(await use()).toBe(false);
    expect(await record()).toBe(false);
  });

  test("and comes first, keeps it: a removal that looked before does not take it", async () => {
    await record();
    await age(31);
    const user = await database.connect();
    onTestFinished(() => user.end());
    await user.query("begin");
    await user.query(`select osp_metadata.use_code('s', $1)`, [A]);
    // Skips what is locked, and after that sees that it is used.
    expect(await taken()).toEqual([]);
    await user.query("commit");
    expect(await taken()).toEqual([]);
  });

  test("while it is being taken, waits and is told", async () => {
    await record();
    await age(31);
    const remover = await database.connect();
    onTestFinished(() => remover.end());
    await remover.query("begin");
    expect((await remover.query(`select * from osp_metadata.take_unused_code()`)).rowCount).toBe(1);
    const user = await database.connect();
    onTestFinished(() => user.end());
    const used = user.query(`select osp_metadata.use_code('s', $1) as kept`, [A]);
    await untilBlocked(database, remover);
    await remover.query("commit");
    expect((await used).rows).toEqual([{ kept: false }]);
  });
});

describe("a service that begins to name code", () => {
  const ways: [string, string][] = [
    ["set_code", `select * from osp.set_code('s', $1)`],
    ["UPDATE", `update osp.services set options = jsonb_build_object('code', $1::text) where service_schema = 's'`],
    [
      "INSERT",
      `insert into osp.services (service_schema, service_name, workflows, options)
      values ('s', 'New', '[{"name": "doWork", "activities": ["first"]}]', jsonb_build_object('code', $1::text))`,
    ],
  ];
  async function prepare(way: string) {
    if (way !== "INSERT") await insertService(database, "s");
    await record();
    await age(31);
  }

  test.each(ways)("by %s keeps it, though the removal looks before that is committed", async (way, statement) => {
    await prepare(way);
    const user = await database.connect();
    onTestFinished(() => user.end());
    await user.query("begin");
    await user.query(statement, [A]);
    expect(await taken()).toEqual([]);
    await user.query("commit");
    expect(await taken()).toEqual([]);
    expect(await use()).toBe(true);
  });

  test.each(ways)("by %s, while it is being taken, waits and is told what to do", async (way, statement) => {
    await prepare(way);
    const remover = await database.connect();
    onTestFinished(() => remover.end());
    await remover.query("begin");
    expect((await remover.query(`select * from osp_metadata.take_unused_code()`)).rowCount).toBe(1);
    const refused = refusal(database.rows(statement, [A]));
    await untilBlocked(database, remover);
    await remover.query("commit");
    expect(await refused).toMatchObject({
      code: "55006",
      message: `options.code: "${A}" of service "s" is just being removed, for nothing has used it for a while`,
      hint: expect.stringContaining("Push it again"),
    });
    expect(await database.rows(`select from osp.services where options ? 'code'`)).toEqual([]);
  });

  test.each(ways)(
    "by %s, while whoever took it is paused past its lease, is refused until it is gone",
    async (way, statement) => {
      await prepare(way);
      const [paused] = await take();
      await leaseEnds();
      // Refused by a Storage that gave no answer, it may be removed yet as well.
      for (const reason of [null, "Storage does not answer"]) {
        expect(await refusal(database.rows(statement, [A]))).toMatchObject({ code: "55006" });
        if (reason !== null) await forget(paused, reason);
      }
      await database.rows(`update osp_metadata.service_code set last_error_at = last_error_at - interval '1 minute'`);
      const [other] = await take();
      expect(other?.path).toBe(paused?.path);
      expect(await forget(other)).toBe(1);
      expect(await record()).toBe(true);
      expect(await database.rows(statement, [A])).toBeDefined();
      expect(await forget(paused)).toBe(0);
      expect(await database.rows(`select lease_token from osp_metadata.service_code`)).toEqual([{ lease_token: null }]);
    },
  );

  test("as whoever may write services", async () => {
    await prepare("INSERT");
    const writer = await database.connect();
    onTestFinished(() => writer.end());
    await writer.query("set role osp_writer");
    expect((await writer.query(`${ways[2]?.[1]}`, [A])).rowCount).toBe(1);
  });
});

test("a removal that was begun is ended, whatever retention says by then and whoever names it by a restore", async () => {
  await record();
  await age(31);
  expect(await take()).toHaveLength(1);
  await leaseEnds();
  await database.rows(`update osp_metadata.retention set keep_unused_code_days = null`);
  await database.rows(`alter table osp.services disable trigger all`);
  await insertService(database, "s", { options: { code: A } });
  await database.rows(`alter table osp.services enable trigger all`);
  expect(await use()).toBe(false);
  expect(await count()).toBe(1);
  expect(await forget((await take())[0])).toBe(1);
  expect(await use()).toBe(true);
});

test("a push of what is being removed by one that went away has the function rung", async () => {
  for (const name of ["net", "vault"]) {
    await database.rows(readFileSync(new URL(`../../local/doorbell/${name}.sql`, import.meta.url), "utf8"));
  }
  onTestFinished(() => void database.rows(`drop schema net cascade; drop schema vault cascade`));
  await database.rows(
    `select vault.create_secret('http://127.0.0.1:9', 'osp_functions_url'), vault.create_secret('a secret', 'osp_webhook_secret')`,
  );
  const rings = async () => (await database.rows(`select from net.http_request_queue`)).length;
  await record();
  await age(31);
  expect(await take()).toHaveLength(1);
  expect(await record()).toBe(false);
  expect(await rings()).toBe(0); // it is at work
  await leaseEnds();
  expect(await record()).toBe(false);
  expect(await rings()).toBe(1);
});

test("what nobody wrote down, for it was stored by hand, is used and never removed", async () => {
  expect(await use()).toBe(true);
  expect(await taken()).toEqual([]);
});

test("a refused option in a row from before the rule does not keep it from being changed otherwise", async () => {
  // Its constraint came later, and was not held against rows that stood there: they were refused by zod already.
  await database.rows(
    `alter table osp.services disable trigger all; alter table osp.services drop constraint services_code_check`,
  );
  await insertService(database, "s", { options: { code: "old" } });
  await database.rows(`alter table osp.services add constraint services_code_check
    check (options -> 'code' is null or osp.is_valid_code(options -> 'code')) not valid; alter table osp.services enable trigger all`);
  await database.rows(`select osp.set_code('s', $1)`, [A]);
  expect(await database.rows(`select options ->> 'code' as code from osp.services`)).toEqual([{ code: A }]);
});
