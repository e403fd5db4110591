import { beforeEach, expect, test } from "vitest";
import { useDatabase } from "../support/database.ts";
import { createMemoryStore, createSqlQueue, createTestHandler, ring } from "../support/edge-function.ts";
import { clearServices, insertService, registryOf } from "../support/services.ts";

const database = useDatabase();
beforeEach(() => clearServices(database));
const answer = async (response: Response) => ({ status: response.status, body: await response.json() });

test("without the secret it answers 401 and nothing happens", async () => {
  await insertService(database, "a");
  const handler = createTestHandler(database);
  for (const headers of [{}, { "x-osp-webhook-secret": "" }, { "x-osp-webhook-secret": "wrong" }]) {
    expect((await handler(ring(headers))).status).toBe(401);
  }
  expect(await registryOf(database, "a")).toEqual([]);
});

test("a ring stores the manifest under its hash and as a mirror, and enqueues the revision", async () => {
  await insertService(database, "a");
  const store = createMemoryStore();
  const handler = createTestHandler(database, { store });
  expect(await answer(await handler(ring()))).toEqual({
    status: 200,
    body: { taken: 1, enqueued: 1, rejected: 0, remaining: 0 },
  });
  const [row] = await database.rows<{ manifest: unknown; manifest_sha256: string; deployment_status: string }>(
    `select * from osp_metadata.worker_registry`,
  );
  expect(row?.deployment_status).toBe("pending");
  expect([...store.objects.keys()].sort()).toEqual(["a.json", `a/1-${row?.manifest_sha256}.json`]);
  expect(JSON.parse(store.objects.get("a.json") ?? "")).toEqual(row?.manifest);
});

test("the registry row has the id that the writer was told", async () => {
  const [asked] = await database.rows<{ deployment_id: string }>(
    `select * from osp.deploy_service('a', 'A', '[{"name":"w","activities":["x"]}]')`,
  );
  await createTestHandler(database)(ring());
  expect((await registryOf(database, "a"))[0]?.id).toBe(asked?.deployment_id);
});

test("ten quick edits are one deployment of the newest", async () => {
  await insertService(database, "a");
  for (let edit = 0; edit < 10; edit++) {
    await database.rows(`update osp.services set service_name = $1`, [`Edit ${edit}`]);
  }
  await createTestHandler(database)(ring());
  expect(await registryOf(database, "a")).toMatchObject([{ revision: 11, deployment_status: "pending" }]);
});

test("many rings at once enqueue each revision once", async () => {
  await database.rows(
    `insert into osp.services (service_schema, service_name, workflows) select 's' || g, 'S', '[{"name":"w","activities":["x"]}]' from generate_series(1, 120) as g`,
  );
  const handler = createTestHandler(database);
  const answers = await Promise.all(
    Array.from({ length: 6 }, async () => (await (await handler(ring())).json()).enqueued),
  );
  expect(answers.reduce((sum, enqueued) => sum + enqueued, 0)).toBe(120);
  expect(await database.rows(`select count(*)::int as count from osp_metadata.worker_registry`)).toEqual([{
    count: 120,
  }]);
});

test("an edit between take and enqueue survives as a revision of its own", async () => {
  await insertService(database, "a");
  const store = createMemoryStore();
  let edited = false;
  const put = store.put;
  store.put = async (path, json) => {
    if (!edited) await database.rows(`update osp.services set service_name = 'Edited meanwhile'`);
    edited = true;
    await put(path, json);
  };
  await createTestHandler(database, { store })(ring());
  expect(await registryOf(database, "a")).toMatchObject([
    { revision: 1, deployment_status: "stopped" },
    { revision: 2, deployment_status: "pending", spec: { service_name: "Edited meanwhile" } },
  ]);
  expect(JSON.parse(store.objects.get("a.json") ?? "").revision).toBe(2);
});

test("while Storage is away nothing is enqueued, nothing is lost and nothing counts as a try", async () => {
  await insertService(database, "a");
  const store = createMemoryStore();
  store.isAway = true;
  const handler = createTestHandler(database, { store });
  for (let tries = 0; tries < 8; tries++) expect((await answer(await handler(ring()))).status).toBe(503);
  expect(await registryOf(database, "a")).toEqual([]);
  store.isAway = false;
  expect((await answer(await handler(ring()))).body).toMatchObject({ enqueued: 1, remaining: 0 });
});

test.each([
  ["what only zod sees", { options: { colour: "red" } }, "http://x.example/", "spec_invalid", /colour/],
  ["no endpoint and no default", {}, undefined, "activity_endpoint_missing", /OSP_DEFAULT_ACTIVITY_ENDPOINT/],
])("a row with %s fails at once and says what to do", async (_title, values, activityEndpoint, error_code, message) => {
  await insertService(database, "a", values);
  await createTestHandler(database, { defaults: { activityEndpoint } })(ring());
  expect(await registryOf(database, "a")).toMatchObject([{
    deployment_status: "failed",
    error_code,
    error_message: expect.stringMatching(message),
  }]);
});

test("a failed newer revision leaves the older one pending", async () => {
  await insertService(database, "a");
  const handler = createTestHandler(database);
  await handler(ring());
  await database.rows(`update osp.services set options = '{"colour": "red"}'`);
  await handler(ring());
  expect(await registryOf(database, "a")).toMatchObject([{ revision: 1, deployment_status: "pending" }, {
    revision: 2,
    deployment_status: "failed",
  }]);
});

test("who lost the lease enqueues nothing", async () => {
  await insertService(database, "a");
  const queue = createSqlQueue(database);
  const late = await queue.take();
  await database.rows(
    `update osp_metadata.service_intents set lease_expires_at = clock_timestamp() - interval '1 second'`,
  );
  const [successor] = await queue.take();
  expect(await queue.enqueue(late)).toEqual([]);
  expect(await queue.enqueue(successor ? [successor] : [])).toHaveLength(1);
});

test("an intent that ends the function twice is taken alone, and fails after five", async () => {
  await insertService(database, "poison");
  await insertService(database, "fine");
  await database.rows(
    `update osp_metadata.service_intents set attempts = 2, requested_at = requested_at - interval '1 minute' where service_schema = 'poison'`,
  );
  const queue = createSqlQueue(database);
  const expire = () =>
    database.rows(`update osp_metadata.service_intents set lease_expires_at = clock_timestamp() - interval '1 second'`);
  expect((await queue.take()).map((intent) => intent.service_schema)).toEqual(["poison"]);
  await expire();
  await queue.take();
  await expire();
  await queue.take();
  await expire();
  expect((await queue.take()).map((intent) => intent.service_schema)).toEqual(["fine"]);
  expect(await registryOf(database, "poison")).toMatchObject([{
    deployment_status: "failed",
    error_code: "manifest_build_crashed",
  }]);
});

test("a value that is cut in the middle of a character in its error does not hold its batch up", async () => {
  await insertService(database, "cut", { options: { activity_endpoint: `ftp://x/${"a".repeat(70)}🍜` } });
  await insertService(database, "neighbour");
  const { body } = await answer(await createTestHandler(database)(ring()));
  expect(body).toMatchObject({ taken: 2, enqueued: 1, rejected: 1 });
  expect(await registryOf(database, "cut")).toMatchObject([{ error_code: "spec_invalid" }]);
});

test("what waits and cannot be taken does not ring without end", async () => {
  await insertService(database, "locked");
  const client = await database.connect();
  await client.query("begin");
  await client.query(`select from osp_metadata.service_intents for update`);
  let rings = 0;
  const { body } = await answer(await createTestHandler(database, { ringAgain: () => rings++ })(ring()));
  await client.query("rollback");
  expect(body).toMatchObject({ taken: 0, remaining: 1 });
  expect(rings).toBe(0);
});
