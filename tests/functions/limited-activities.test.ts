import { beforeEach, expect, test } from "vitest";
import { useDatabase } from "../support/database.ts";
import { createTestHandler, ring } from "../support/edge-function.ts";
import { insertService, registryOf } from "../support/services.ts";

const database = useDatabase();
const handler = createTestHandler(database);
beforeEach(async () => {
  await database.rows(`truncate osp.services, osp_metadata.service_intents, osp_metadata.worker_registry cascade`);
});

const WORKFLOWS = [{ name: "doWork", activities: ["first", "second", "third"] }];

/** `limited_before` of the manifest that comes of such options. */
async function revise(activities: object): Promise<unknown> {
  await database.rows(`update osp.services set options = $1 where service_schema = 's'`, [
    JSON.stringify({ activities }),
  ]);
  return await newest();
}

async function newest(): Promise<unknown> {
  await handler(ring());
  const { manifest, ...row } = Object((await registryOf(database, "s")).at(-1));
  expect(row).toMatchObject({ deployment_status: "pending", error_message: null });
  return manifest.limited_before;
}

test("a revision is told which activities had limits before, and have none now", async () => {
  await insertService(database, "s", { workflows: WORKFLOWS });
  expect(await newest()).toBeUndefined();
  expect(await revise({ second: { max_concurrent: 1 }, third: { timeout_seconds: 5 } })).toBeUndefined();
  expect(await revise({ first: { max_per_second: 0.5 }, second: { max_concurrent: 2 } })).toBeUndefined();
  expect(await revise({})).toEqual(["first", "second"]);
  expect(await revise({ second: { max_task_queue_per_second: 9 } })).toEqual(["first"]);
  await database.rows(
    `update osp.services set options = '{}', workflows = '[{"name": "doWork", "activities": ["other"]}]' where service_schema = 's'`,
  );
  expect(await newest()).toEqual(["first", "second"]);
});

test("deleted and inserted again, disabled and enabled, it is still told", async () => {
  await insertService(database, "s", {
    workflows: WORKFLOWS,
    options: { activities: { first: { max_concurrent: 1 } } },
  });
  await handler(ring());
  await database.rows(`delete from osp.services`);
  await handler(ring());
  await insertService(database, "s", { workflows: WORKFLOWS });
  expect(await newest()).toEqual(["first"]);
  await database.rows(`update osp.services set enabled = false`);
  await handler(ring());
  await database.rows(`update osp.services set enabled = true`);
  expect(await newest()).toEqual(["first"]);
});

test.each([
  ["null", null],
  ["no object", "[]"],
  ["bent", `{"options": {"activities": [1, {"max_concurrent": 1}]}, "limited_before": {"a": "first"}}`],
  ["bent further", `{"options": 7, "limited_before": [7, null, "no name", "__osp_plan"]}`],
])("a manifest in the registry that is %s tells of none, and holds nobody up", async (_, manifest) => {
  await insertService(database, "s", { workflows: WORKFLOWS });
  await handler(ring());
  await database.rows(`update osp_metadata.worker_registry set manifest = $1`, [manifest]);
  expect(await revise({ third: { timeout_seconds: 5 } })).toBeUndefined();
});
