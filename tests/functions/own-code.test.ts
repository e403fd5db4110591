import { beforeEach, describe, expect, onTestFinished, test } from "vitest";
import {
  connect,
  createCodeStore,
  createUnusedCode,
} from "../../supabase/functions/queue-worker-build/supabase-adapter.ts";
import { useApi } from "../client/api.ts";
import { KEYS } from "../local/stand.ts";
import { archiveOf, CODE_BUCKET_SQL, store, unstore } from "../support/code-archive.ts";
import { refusal, useDatabase } from "../support/database.ts";
import { createMachine } from "../support/deployer.ts";
import { createTestHandler, ring } from "../support/edge-function.ts";
import { eventually, insertService, registryOf } from "../support/services.ts";

const database = useDatabase();
const api = useApi(database);
const code = archiveOf("export async function first() {}\n");
beforeEach(async () => {
  await database.rows(`truncate osp.services, osp_metadata.service_intents, osp_metadata.worker_registry cascade`);
  await database.rows(`delete from osp_metadata.service_code`);
  await database.rows(CODE_BUCKET_SQL);
  await unstore(api.url, "s", code.code);
});

/** The function's way to code on the real Data API and Storage, or another. */
function createFunction(to: { url?: string; key?: string } = {}, deps: Parameters<typeof createTestHandler>[1] = {}) {
  return createTestHandler(database, {
    code: createCodeStore(connect(to.url ?? api.url, to.key ?? KEYS.SECRET_KEY)),
    unusedCode: createUnusedCode(connect(api.url, KEYS.SECRET_KEY)),
    ...deps,
  });
}
const insert = (options: object = {}) => insertService(database, "s", { options: { code: code.code, ...options } });
const leaseEnds = () => database.rows(`update osp_metadata.service_code set lease_expires_at = clock_timestamp()`);
const objects = () => database.rows(`select name from storage.objects where bucket_id = 'code' order by name`);

test("a manifest of a service with code names its modules and its hash; an endpoint it needs not", async () => {
  await store(api.url, "s", code);
  await insert();
  await createFunction({}, { defaults: { activityEndpoint: undefined } })(ring());
  const [row] = await registryOf(database, "s");
  expect(row).toMatchObject({
    deployment_status: "pending",
    manifest: {
      activities_path: "./code/activities.mjs",
      workflows: [{ name: "doWork", workflows_path: "./code/workflows.mjs", task_queue: "s-tasks" }],
      options: { code: code.code, activity_timeout_seconds: 60 },
    },
  });
  expect(Object(row).manifest.options).not.toHaveProperty("activity_endpoint");
});

test("code that Storage does not have fails at once and tells what to do; pushed and asked for again it goes on", async () => {
  await store(api.url, "another_service", code);
  await insert();
  expect(await (await createFunction()(ring())).json()).toMatchObject({ taken: 1, enqueued: 0, rejected: 1 });
  expect(await registryOf(database, "s")).toMatchObject([{
    deployment_status: "failed",
    error_code: "code_missing",
    error_message: expect.stringMatching(
      new RegExp(
        `^Service "s" revision 1 names code ${code.code}, which Storage does not have: push it by .osp code push s `,
      ),
    ),
  }]);
  await store(api.url, "s", code);
  await database.rows(`select osp.redeploy('s')`);
  await createFunction()(ring());
  expect((await registryOf(database, "s"))[1]).toMatchObject({ deployment_status: "pending" });
});

describe("what is nobody's fault waits, says so in SQL, and goes on by itself", () => {
  test.each([
    [
      "a bucket that is missing",
      `delete from storage.buckets where id = 'code'`,
      {},
      /no bucket "code": insert into storage\.buckets/,
    ],
    ["a wrong key", `select`, { key: "sb_secret_wrong" }, /^Cannot call osp_metadata\.use_code: /],
    ["an API that does not answer", `select`, { url: "http://127.0.0.1:9" }, /^Cannot call osp_metadata\.use_code: /],
  ])("%s", async (_title, statement, storage, reason) => {
    await store(api.url, "s", code);
    await insert();
    if (statement !== "select") {
      await database.rows(`delete from storage.objects where bucket_id = 'code'`).catch(() => {});
    }
    await database.rows(statement);
    for (let tries = 0; tries < 6; tries++) expect((await createFunction(storage)(ring())).status).toBe(503);
    expect(await registryOf(database, "s")).toEqual([]);
    expect(await database.rows(`select last_error, attempts from osp_metadata.service_intents`)).toEqual([
      { last_error: expect.stringMatching(reason), attempts: 0 },
    ]);
    await database.rows(CODE_BUCKET_SQL);
    await store(api.url, "s", code);
    await createFunction()(ring());
    expect(await registryOf(database, "s")).toMatchObject([{ deployment_status: "pending" }]);
  });

  test("code that is being removed: until it is gone, and then what to do is told", async () => {
    await store(api.url, "s", code);
    await database.rows(`select osp.record_code('s', $1, 1)`, [code.code]);
    await insert();
    // By a function that then died; a restore, which no trigger sees, may name code meanwhile.
    await database.rows(
      `update osp_metadata.service_code set lease_token = gen_random_uuid(), lease_expires_at = now() + interval '30 s'`,
    );
    const response = await createFunction()(ring());
    expect(response.status).toBe(503);
    expect(await response.json()).toMatchObject({ message: expect.stringContaining("is just being removed") });
    expect(await registryOf(database, "s")).toEqual([]);
    await leaseEnds();
    const rings: string[] = [];
    expect((await createFunction({}, { ringAgain: () => rings.push("ring") })(ring())).status).toBe(200);
    expect(await objects()).toEqual([]);
    expect(rings).toEqual(["ring"]); // for what waited
    await createFunction()(ring());
    expect(await registryOf(database, "s")).toMatchObject([{
      deployment_status: "failed",
      error_code: "code_missing",
    }]);
  });
});

describe("a function that is held up while it removes code", () => {
  /** Old enough to go. */
  const pushed = async () => {
    await store(api.url, "s", code);
    await database.rows(`select osp.record_code('s', $1, 1)`, [code.code]);
    await database.rows(`update osp_metadata.service_code set pushed_at = pushed_at - interval '31 days'`);
  };
  /** What befalls the archive while the other one sleeps, past its lease. */
  const goneAndPushedAgain = async () => {
    await leaseEnds();
    expect(await refusal(insert())).toMatchObject({ code: "55006", hint: expect.stringContaining("Push it again") });
    await createFunction()(ring());
    expect(await objects()).toEqual([]);
    await store(api.url, "s", code);
    await database.rows(`select osp.record_code('s', $1, 1)`, [code.code]);
    await insert();
    await createFunction()(ring());
    expect(await registryOf(database, "s")).toMatchObject([{ deployment_status: "pending" }]);
  };
  const missing = () =>
    database.rows(`select service_schema, missing_since is not null as is_missing from osp_metadata.service_code`);
  const needed = () => database.rows(`select service_schema, code from osp_metadata.check_code()`);

  test("before it asks Storage, leaves it to another: what was pushed again meanwhile stays", async () => {
    await pushed();
    const unusedCode = createUnusedCode(connect(api.url, KEYS.SECRET_KEY));
    const events: unknown[] = [];
    let now = 0;
    await createFunction({}, {
      unusedCode: {
        ...unusedCode,
        async take() {
          const taken = await unusedCode.take();
          if (taken.length === 0) return taken;
          await goneAndPushedAgain();
          now += 31_000;
          return taken;
        },
      },
      now: () => now,
      log: (event) => events.push(event),
    })(ring());
    expect(events).toEqual([{
      event: "removal.failed",
      error: expect.stringContaining("was held up since it took that"),
    }]);
    expect(await objects()).toHaveLength(1);
    expect(await needed()).toEqual([]);
  });

  /** A Storage that carries a removal out long after it was asked for. */
  function createLate(andThen: () => Promise<void>) {
    const slow = createCodeStore(connect(api.url, KEYS.SECRET_KEY));
    return {
      ...slow,
      async remove(paths: string[]) {
        await goneAndPushedAgain();
        await slow.remove(paths);
        await andThen();
      },
    };
  }

  test("by a slow Storage: what it took from a service is told at once, and is there when it is pushed again", async () => {
    await pushed();
    const events: unknown[] = [];
    await createFunction({}, { code: createLate(async () => {}), log: (event) => events.push(event) })(ring());
    expect(await objects()).toEqual([]);
    expect(events).toContainEqual({ event: "removal.late", paths: [`s/${code.code}.tar.gz`] });
    expect(await missing()).toEqual([{ service_schema: "s", is_missing: true }]);
    expect(await needed()).toEqual([{ service_schema: "s", code: code.code }]);
    await store(api.url, "s", code);
    await database.rows(`select osp.record_code('s', $1, 1)`, [code.code]);
    expect(await missing()).toEqual([{ service_schema: "s", is_missing: false }]);
    expect(await needed()).toEqual([]);
  });

  test("by a slow Storage, and dies: a deployer finds what is missing and says what to do", async () => {
    await pushed();
    const died = new Promise<void>(() => {});
    let isLate = () => {};
    const late = new Promise<void>((resolve) => isLate = resolve);
    void createFunction({}, {
      code: createLate(() => {
        isLate();
        return died;
      }),
    })(ring());
    await late;
    expect(await missing()).toEqual([{ service_schema: "s", is_missing: false }]);
    const machine = createMachine(database, () => "127.0.0.1:9");
    onTestFinished(() => machine.clear());
    await database.rows(
      `update osp_metadata.platforms set paused_at = now(), pause_reason = 'a test' where name = 'local'`,
    );
    const deployer = machine.start({ OSP_SWEEP_SECONDS: "0.2", OSP_RECONCILE_SECONDS: "0.2" });
    const told = await deployer.event("code.missing");
    expect(told).toContain("push it by `osp code push s <directory>`");
    expect(await missing()).toEqual([{ service_schema: "s", is_missing: true }]);
    await store(api.url, "s", code);
    await eventually(missing, ([row]) => Object(row).is_missing === false);
    expect(deployer.output().split(`"code.missing"`)).toHaveLength(2); // once
  });
});

describe("a ring removes code that nobody uses", () => {
  const aged = async () => {
    await store(api.url, "s", code);
    await database.rows(`select osp.record_code('s', $1, 1)`, [code.code]);
    await database.rows(`update osp_metadata.service_code set pushed_at = pushed_at - interval '31 days'`);
    expect(await database.rows(`select osp_metadata.count_unused_code() as count`)).toEqual([{ count: 1 }]);
  };

  test("and forgets it", async () => {
    await aged();
    const events: unknown[] = [];
    expect((await createFunction({}, { log: (event) => events.push(event) })(ring())).status).toBe(200);
    expect(await objects()).toEqual([]);
    expect(await database.rows(`select * from osp_metadata.service_code`)).toEqual([]);
    expect(events).toEqual([{ event: "objects.removed", objects: 1 }]);
  });

  test("which a Storage that refuses puts off, with the reason", async () => {
    await aged();
    expect((await createFunction({ key: "sb_secret_wrong" })(ring())).status).toBe(200);
    expect(await objects()).toHaveLength(1);
    expect(await database.rows(`select last_error from osp_metadata.service_code`)).toEqual([
      { last_error: expect.stringContaining("SUPABASE_SECRET_KEYS") },
    ]);
    await database.rows(`update osp_metadata.service_code set last_error_at = last_error_at - interval '1 minute'`);
    await createFunction()(ring());
    expect(await objects()).toEqual([]);
  });
});
