import { beforeEach, describe, expect, onTestFinished, test } from "vitest";
import { refusal, useDatabase } from "../support/database.ts";
import { createTestHandler, ring } from "../support/edge-function.ts";
import { untilBlocked } from "../support/locks.ts";
import { insertHistory } from "../support/registry-rows.ts";
import { clearServices, insertService } from "../support/services.ts";

const database = useDatabase();
beforeEach(async () => {
  await clearServices(database);
  await database.rows(`delete from osp_metadata.pruned_objects`);
  await database.rows(`delete from osp_metadata.retention`);
  await database.rows(`insert into osp_metadata.retention (keep_days, keep_revisions) values (30, 2)`);
});

async function prune(batchSize = 1000): Promise<number | undefined> {
  return (await database.rows<{ waiting: number }>(`select osp_metadata.prune($1) as waiting`, [batchSize]))[0]
    ?.waiting;
}
const keep = (days: number | null, revisions: number) =>
  database.rows(`update osp_metadata.retention set keep_days = $1, keep_revisions = $2`, [days, revisions]);
/** Revisions of a service that are left. */
async function left(schema = "s"): Promise<number[]> {
  const rows = await database.rows<{ revision: number }>(
    `select revision from osp_metadata.worker_registry where service_schema = $1 order by revision`,
    [schema],
  );
  return rows.map(({ revision }) => revision);
}
const objects = async () =>
  (await database.rows<{ path: string }>(`select path from osp_metadata.pruned_objects order by path`))
    .map(({ path }) => path);
const objectOf = (schema: string, revision: number) =>
  `${schema}/${revision}-${String(revision).padStart(64, "0")}.json`;

describe("what is kept", () => {
  test("everything for ever, as long as nobody says otherwise", async () => {
    await database.rows(`delete from osp_metadata.retention`);
    await insertHistory(database, "s", [1, 2, 3, 4].map((revision) => ({ revision, daysAgo: 10_000 })));
    expect(await prune()).toBe(0);
    expect(await left()).toEqual([1, 2, 3, 4]);
    expect(await database.rows(`select keep_days, keep_revisions from osp_metadata.retention`)).toEqual([
      { keep_days: null, keep_revisions: 10 },
    ]);
  });

  test("what is young, and the newest revisions however old they are", async () => {
    await insertHistory(database, "s", [
      { revision: 1 },
      { revision: 2, status: "failed" },
      { revision: 4, daysAgo: 29.9 },
      { revision: 5, daysAgo: 30.1 },
      { revision: 8 },
      { revision: 9 },
    ]);
    expect(await prune()).toBe(3);
    expect(await left()).toEqual([4, 8, 9]);
    expect(await objects()).toEqual([objectOf("s", 1), objectOf("s", 2), objectOf("s", 5)]);
  });

  test("what has not ended, and what a deployment needs that has", async () => {
    await insertHistory(database, "s", [
      { revision: 1, serviceId: "older" },
      { revision: 2, serviceId: "on-the-platform" }, // by it the next revision finds its service there
      { revision: 3, status: "deployed" },
      { revision: 4 },
      { revision: 5, status: "deploying" },
      { revision: 6, status: "pending" },
      { revision: 7, status: "failed" },
      { revision: 8, status: "failed" },
    ]);
    await prune();
    expect(await left()).toEqual([2, 3, 5, 6, 7, 8]);
  });

  test.each([[1, [9]], [2, [8, 9]], [9, [1, 2, 3, 4, 5, 6, 7, 8, 9]]])(
    "with keep_days 0 the newest %s alone",
    async (revisions, expected) => {
      await keep(0, revisions);
      await insertHistory(
        database,
        "s",
        [1, 2, 3, 4, 5, 6, 7, 8, 9].map((revision) => ({ revision, daysAgo: 0.0001 })),
      );
      await prune();
      expect(await left()).toEqual(expected);
    },
  );

  test("one that failed is as old as its last attempt, and one that was refused as old as its row", async () => {
    await insertHistory(database, "s", [
      { revision: 1, status: "failed" },
      { revision: 2, status: "failed" },
      { revision: 3, status: "failed", hasManifest: false },
      { revision: 8 },
      { revision: 9 },
    ]);
    await database.rows(`update osp_metadata.deployment_attempts set ended_at = clock_timestamp() where revision = 1`);
    await database.rows(`delete from osp_metadata.deployment_attempts where revision = 3`);
    await prune();
    expect(await left()).toEqual([1, 8, 9]);
    expect(await objects()).toEqual([objectOf("s", 2)]); // what was refused has no object
  });

  test("nothing of an attempt whose deployment is gone", async () => {
    await insertHistory(database, "s", [1, 2, 3].map((revision) => ({ revision })));
    await prune();
    expect(await database.rows(`select revision from osp_metadata.deployment_attempts order by 1`)).toEqual([
      { revision: 2 },
      { revision: 3 },
    ]);
  });
});

describe("a deleted service", () => {
  const deleted = [{ revision: 1, serviceId: "x" }, { revision: 2 }, {
    revision: 3,
    source: "delete",
    hasManifest: false,
  }];

  test("goes altogether, its mirror too, and only its number stays", async () => {
    await insertHistory(database, "s", deleted);
    await insertHistory(database, "other", [{ revision: 1, status: "deployed" }]);
    expect(await prune()).toBe(3);
    expect(await left()).toEqual([]);
    expect(await objects()).toEqual(["s.json", objectOf("s", 1), objectOf("s", 2)]);
    expect(await database.rows(`select service_schema from osp_metadata.worker_status`)).toEqual([
      { service_schema: "other" },
    ]);
    expect(await prune()).toBe(3);
    await insertService(database, "s");
    expect(
      await database.rows(`select revision, source from osp_metadata.service_intents where service_schema = 's'`),
    ).toEqual([{ revision: 4, source: "insert" }]);
  });

  test("requests nothing again", async () => {
    await insertHistory(database, "s", deleted);
    await prune();
    expect(await database.rows(`select osp_metadata.reconcile() as waiting`)).toEqual([{ waiting: 0 }]);
  });

  test("stays like any other until its deletion is old enough", async () => {
    await insertHistory(database, "s", [{ revision: 1 }, { revision: 2 }, {
      revision: 3,
      source: "delete",
      daysAgo: 3,
    }]);
    await prune();
    expect(await left()).toEqual([2, 3]);
    expect(await objects()).toEqual([objectOf("s", 1)]);
  });

  test("stays while it is not removed from its platform yet", async () => {
    await insertHistory(database, "s", [{ revision: 1 }, { revision: 2 }, {
      revision: 3,
      source: "delete",
      status: "pending",
    }]);
    await prune();
    expect(await left()).toEqual([2, 3]);
  });

  test("that was inserted again stays", async () => {
    await insertHistory(database, "s", deleted);
    await insertService(database, "s");
    await prune();
    expect(await left()).toEqual([1, 2, 3]); // 1 has the platform's id, 2 and 3 are the newest
    expect(await objects()).toEqual([]);
  });

  test("a disabled one keeps its newest revisions", async () => {
    await insertHistory(database, "s", [{ revision: 1 }, { revision: 2 }, { revision: 3, source: "disable" }]);
    await prune();
    expect(await left()).toEqual([2, 3]);
  });
});

describe("a call does a bounded part, and the next goes on", () => {
  const countLeft = async () =>
    (await database.rows<{ count: number }>(`select count(*)::integer as count from osp_metadata.worker_registry`))[0]
      ?.count;

  test("within one service that has a lot", async () => {
    const many = Array.from({ length: 50 }, (_, index) => ({ revision: index + 1 }));
    for (const schema of ["a", "b", "c"]) await insertHistory(database, schema, many);
    const counts = [];
    for (let call = 0; call < 6; call++) {
      await prune(30);
      counts.push(await countLeft());
    }
    expect(counts).toEqual([120, 90, 60, 30, 6, 6]);
    expect(await left("b")).toEqual([49, 50]);
    expect(await objects()).toHaveLength(144);
  });

  test("over more services than one call looks at, again and again", async () => {
    await database.rows(
      `with deployed as (
        insert into osp_metadata.worker_registry (service_schema, manifest_path, revision, source, deployment_status, stopped_at)
        select 's' || n, 'm', revision, 'update', 'stopped', clock_timestamp() - interval '1 year'
        from generate_series(1, 700) as n, generate_series(1, 3) as revision
      ) insert into osp_metadata.service_intents (service_schema, revision, enqueued_revision, wanted, source, requested_by)
      select 's' || n, 3, 3, 'run', 'update', 'postgres' from generate_series(1, 700) as n`,
    );
    for (let call = 0; call < 3; call++) await prune();
    expect(await countLeft()).toBe(1400);
    await keep(30, 1);
    for (let call = 0; call < 4; call++) await prune();
    expect(await countLeft()).toBe(700);
  });

  test("and passes over what another session holds", async () => {
    await insertHistory(database, "s", [1, 2, 3, 4].map((revision) => ({ revision })));
    const client = await database.connect();
    onTestFinished(() => client.end());
    await client.query(`begin; select from osp_metadata.worker_registry where revision = 1 for update`);
    await prune();
    expect(await left()).toEqual([1, 3, 4]);
    await client.query("rollback");
    await prune();
    expect(await left()).toEqual([3, 4]);
  });

  test("two at once: one works, the other does not wait for it", async () => {
    await insertHistory(database, "s", [1, 2, 3].map((revision) => ({ revision })));
    const client = await database.connect();
    onTestFinished(() => client.end());
    await client.query(`begin; select osp_metadata.prune()`);
    expect(await prune()).toBe(0);
    await client.query("rollback");
    expect(await left()).toEqual([1, 2, 3]);
    expect(await prune()).toBe(1);
  });
});

test.each([
  [`keep_days = -1`, "keep_days: -1 must be from 0 to 36500", "null keeps everything for ever"],
  [`keep_days = 36501`, "keep_days: 36501 must be from 0 to 36500", "null keeps everything for ever"],
  [
    `keep_revisions = 0`,
    "keep_revisions: 0 must be from 1 to 100000",
    "The newest revision of a service is always kept",
  ],
  [`keep_revisions = null`, "keep_revisions: null must be from 1 to 100000", "keep_days = null"],
])("a setting that cannot be followed is refused: %s", async (setting, message, hint) => {
  expect(await refusal(database.rows(`update osp_metadata.retention set ${setting}`))).toMatchObject({
    code: "23514",
    message,
    hint: expect.stringContaining(hint),
  });
});

test("there is one setting", async () => {
  expect(await refusal(database.rows(`insert into osp_metadata.retention default values`))).toMatchObject({
    code: "23505",
  });
  expect(await refusal(database.rows(`insert into osp_metadata.retention (is_only_row) values (false)`))).toMatchObject(
    { code: "23514" },
  );
});

describe("rollback", () => {
  const rollback = (revision: number) => database.rows(`select * from osp.rollback('s', $1)`, [revision]);
  /** Four revisions of which the first two are pruned soon. */
  async function fourRevisions(): Promise<void> {
    const handler = createTestHandler(database);
    for (const name of ["One", "Two", "Three", "Four"]) {
      if (name === "One") await insertService(database, "s", { name });
      else await database.rows(`update osp.services set service_name = $1`, [name]);
      await handler(ring());
    }
    await database.rows(`update osp_metadata.worker_registry set stopped_at = stopped_at - interval '1 year'`);
  }

  test("cannot reach what is pruned, and says what is left", async () => {
    await fourRevisions();
    await prune();
    expect(await refusal(rollback(2))).toMatchObject({
      code: "P0002",
      message: expect.stringMatching(/^Cannot roll service "s" back to revision 2: .* or it was pruned$/),
      hint: "Revisions that it can be rolled back to: 4, 3",
    });
    expect(await rollback(3)).toMatchObject([{ revision: 5 }]);
  });

  test("that waits for another session keeps what it aims at, though that is pruned meanwhile", async () => {
    await fourRevisions();
    const editor = await database.connect();
    onTestFinished(() => editor.end());
    await editor.query(`begin; update osp.services set service_name = 'Edited'`);
    const rolledBack = rollback(1);
    await untilBlocked(database, editor);
    await prune();
    expect(await left()).toEqual([3, 4]);
    await editor.query("commit");
    expect(await rolledBack).toMatchObject([{ revision: 6 }]);
    expect(await database.rows(`select service_name from osp.services`)).toEqual([{ service_name: "One" }]);
  });
});
