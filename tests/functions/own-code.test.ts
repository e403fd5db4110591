import { beforeEach, describe, expect, test } from "vitest";
import {
  connect,
  createCodeStore,
  createUnusedCode,
} from "../../supabase/functions/queue-worker-build/supabase-adapter.ts";
import { useApi } from "../client/api.ts";
import { KEYS } from "../local/stand.ts";
import { archiveOf, CODE_BUCKET_SQL, store, unstore } from "../support/code-archive.ts";
import { useDatabase } from "../support/database.ts";
import { createTestHandler, ring } from "../support/edge-function.ts";
import { insertService, registryOf } from "../support/services.ts";

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

  test("code that is just being removed: when that is over it is missing, or still there", async () => {
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
    await database.rows(`update osp_metadata.service_code set lease_expires_at = clock_timestamp()`);
    await createFunction()(ring());
    expect(await registryOf(database, "s")).toMatchObject([{ deployment_status: "pending" }]);
    expect(await objects()).toHaveLength(1);
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
