import { once } from "node:events";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { useApi } from "../client/api.ts";
import { useDatabase } from "../support/database.ts";
import { startFunction, type TestFunction } from "../support/function-server.ts";
import { clearServices, eventually, insertService, registryOf } from "../support/services.ts";
import { startStorageGate, type StorageGate } from "../support/storage-gate.ts";

// The function as it is deployed, in a real Deno process, on the real API: killed by SIGKILL while Storage lets it wait.
const database = useDatabase();
const api = useApi(database);
let gate: StorageGate;
let edgeFunction: TestFunction;
beforeAll(async () => {
  gate = await startStorageGate(api.url);
  await database.rows(`insert into storage.buckets (id, name, public) values ('manifests', 'manifests', false)`);
});
afterAll(() => gate.close());
beforeEach(async () => {
  gate.open();
  gate.held.length = 0;
  await clearServices(database);
  edgeFunction = await startFunction(gate.url);
});
afterEach(async () => void await edgeFunction.stop());

/** Rings, and kills the function by SIGKILL as soon as Storage holds one of its requests; then it is there again. */
async function killWhileStorageHoldsIt(): Promise<void> {
  const before = gate.held.length;
  const rung = edgeFunction.ring().then(() => "answered", () => "cut off");
  await eventually(() => Promise.resolve(gate.held.length), (count) => count > before);
  const exited = once(edgeFunction.child, "exit");
  edgeFunction.child.kill("SIGKILL");
  await exited;
  expect(await rung).toBe("cut off");
  edgeFunction = await startFunction(gate.url);
}
const leasesEnd = () =>
  database.rows(
    `update osp_metadata.service_intents set lease_expires_at = clock_timestamp() where lease_token is not null`,
  );
const intents = () =>
  database.rows(
    `select service_schema, attempts, lease_expires_at > clock_timestamp() as is_held from osp_metadata.service_intents order by 1`,
  );

test("killed in the middle of a taking: what it took waits for the lease to end, and then goes on, once", async () => {
  for (const schema of ["one", "two", "three"]) await insertService(database, schema);
  gate.hold((path) => path.startsWith("two/"));
  await killWhileStorageHoldsIt();
  expect(await intents()).toEqual(
    ["one", "three", "two"].map((service_schema) => ({ service_schema, attempts: 1, is_held: true })),
  );
  gate.open();
  expect(await edgeFunction.ring()).toEqual({ taken: 0, enqueued: 0, rejected: 0, remaining: 0 });
  await insertService(database, "newcomer");
  expect(await edgeFunction.ring()).toMatchObject({ taken: 1, enqueued: 1 });
  await leasesEnd();
  expect(await edgeFunction.ring()).toEqual({ taken: 3, enqueued: 3, rejected: 0, remaining: 0 });
  for (const schema of ["one", "two", "three"]) {
    expect(await registryOf(database, schema)).toMatchObject([{ revision: 1, deployment_status: "pending" }]);
  }
});

test("killed five times by one service: the others are enqueued, it fails with the reason, its removal does not", async () => {
  for (const schema of ["mate_1", "poison", "mate_2"]) await insertService(database, schema);
  gate.hold((path) => path.startsWith("poison/"));
  for (let death = 0; death < 5; death++) {
    await killWhileStorageHoldsIt();
    await edgeFunction.ring();
    await leasesEnd();
  }
  expect(await edgeFunction.ring()).toMatchObject({ taken: 0, remaining: 0 });
  expect(await registryOf(database, "poison")).toMatchObject([
    { deployment_status: "failed", error_code: "manifest_build_crashed" },
  ]);
  for (const schema of ["mate_1", "mate_2"]) {
    expect(await registryOf(database, schema), schema).toMatchObject([{ deployment_status: "pending" }]);
  }
  await database.rows(`delete from osp.services where service_schema = 'poison'`);
  expect(await edgeFunction.ring()).toMatchObject({ taken: 1, enqueued: 1 });
  expect((await registryOf(database, "poison")).at(-1)).toMatchObject({
    deployment_status: "pending",
    source: "delete",
  });
});

test("killed while it removes what was pruned: the removal is repeated, and nothing else goes", async () => {
  await insertService(database, "kept");
  await edgeFunction.ring();
  await database.rows(`update osp.services set service_name = 'Two'`);
  await edgeFunction.ring();
  const objects = async () =>
    (await database.rows<{ name: string }>(`select name from storage.objects where name like 'kept%' order by name`))
      .map(({ name }) => name);
  const [, first, second] = await objects();
  expect([first, second]).toEqual([expect.stringMatching(/^kept\/1-/), expect.stringMatching(/^kept\/2-/)]);
  await database.rows(`update osp_metadata.retention set keep_days = 0, keep_revisions = 1`);
  expect(await database.rows(`select osp_metadata.prune() as waiting`)).toEqual([{ waiting: 1 }]);
  gate.hold((path) => path === "");
  await killWhileStorageHoldsIt();
  gate.open();
  expect(await objects()).toContain(first);
  await database.rows(`update osp_metadata.pruned_objects set lease_expires_at = clock_timestamp()`);
  await edgeFunction.ring();
  expect(await objects()).toEqual(["kept.json", second]);
  expect(await database.rows(`select from osp_metadata.pruned_objects`)).toEqual([]);
});
