import { readFileSync } from "node:fs";
import { beforeEach, describe, expect, test } from "vitest";
import type { DeploymentRequest } from "../../supabase/functions/queue-worker-build/intents.ts";
import { useDatabase } from "../support/database.ts";
import {
  createMemoryStore,
  createSqlPrunedObjects,
  createSqlQueue,
  createTestHandler,
  type MemoryStore,
  ring,
} from "../support/edge-function.ts";
import { createFaultyPorts, type Fault, type FaultyPorts } from "../support/faulty-ports.ts";
import { clearServices, insertService, registryOf } from "../support/services.ts";

const database = useDatabase();
const queue = createSqlQueue(database);
const pruned = createSqlPrunedObjects(database);
let store: MemoryStore;
beforeEach(async () => {
  await reset();
});

async function reset(): Promise<void> {
  store = createMemoryStore();
  await clearServices(database);
  await database.rows(`delete from osp_metadata.pruned_objects`);
}

const healthy = () => createTestHandler(database, { store });
/** The time after which what nobody gave back may be taken again. */
const leasesEnd = () =>
  database.rows(`with intents as (
    update osp_metadata.service_intents set lease_expires_at = clock_timestamp() where lease_token is not null
  ) update osp_metadata.pruned_objects set lease_expires_at = clock_timestamp(), last_error_at = last_error_at - interval '1 hour'`);

/** One run of the function that meets a fault. */
async function run(ports: FaultyPorts): Promise<void> {
  const handler = createTestHandler(database, {
    queue: ports.wrap(queue),
    pruned: ports.wrap(pruned),
    store: ports.wrap({ putOnce: store.putOnce, put: store.put, remove: store.remove }),
  });
  await Promise.race([handler(ring()), ports.crashed]);
}

/** One service of each kind that a taking can meet, and an object that nobody needs. */
async function arrange(): Promise<void> {
  for (const schema of ["changed", "gone", "off"]) await insertService(database, schema);
  await healthy()(ring());
  await database.rows(`update osp.services set service_name = 'Changed' where service_schema = 'changed'`);
  await database.rows(`delete from osp.services where service_schema = 'gone'`);
  await database.rows(`update osp.services set enabled = false where service_schema = 'off'`);
  await insertService(database, "fresh");
  await insertService(database, "invalid", { options: { colour: "red" } });
  await insertService(database, "suspect");
  await database.rows(`update osp_metadata.service_intents set attempts = 2 where service_schema = 'suspect'`);
  store.objects.set("long_gone/1-a.json", "{}");
  await database.rows(
    `insert into osp_metadata.pruned_objects (path, service_schema, revision) values ('long_gone/1-a.json', 'long_gone', 1)`,
  );
}

/** What holds however the run went: each service once at its newest revision, nothing lost, nobody at fault but who is. */
async function expectPromisesKept(): Promise<void> {
  const rows = await database.rows<{
    service_schema: string;
    revision: number;
    deployment_status: string;
    source: string;
    manifest: unknown;
    manifest_sha256: string | null;
  }>(`select * from osp_metadata.worker_registry order by service_schema, revision`);
  expect(rows.map((row) => [row.service_schema, row.revision, row.source, row.deployment_status])).toEqual([
    ["changed", 1, "insert", "stopped"],
    ["changed", 2, "update", "pending"],
    ["fresh", 1, "insert", "pending"],
    ["gone", 1, "insert", "stopped"],
    ["gone", 2, "delete", "pending"],
    ["invalid", 1, "insert", "failed"],
    ["off", 1, "insert", "stopped"],
    ["off", 2, "disable", "pending"],
    ["suspect", 1, "insert", "pending"],
  ]);
  for (const { service_schema, revision, manifest, manifest_sha256 } of rows) {
    if (manifest === null) continue;
    const object = store.objects.get(`${service_schema}/${revision}-${manifest_sha256}.json`);
    expect(JSON.parse(object ?? "null"), service_schema).toEqual(manifest);
  }
  expect(
    await database.rows(
      `select service_schema from osp_metadata.service_intents
      where revision <> enqueued_revision or attempts <> 0 or lease_token is not null or last_error is not null`,
    ),
  ).toEqual([]);
  expect(await database.rows(`select path from osp_metadata.pruned_objects`)).toEqual([]);
  expect(store.objects.has("long_gone/1-a.json")).toBe(false);
  expect(await database.rows(`select osp_metadata.reconcile() as waiting`)).toEqual([{ waiting: 0 }]);
}

describe("the function fails at its n-th call, n = 1, 2, … until a run completes", () => {
  test.each<Omit<Fault, "at">>([
    { kind: "error", hasEffect: false },
    { kind: "error", hasEffect: true },
    { kind: "error", hasEffect: false, lasts: 2 },
    { kind: "error", hasEffect: true, lasts: 2 },
    { kind: "crash", hasEffect: false },
    { kind: "crash", hasEffect: true },
  ])("$kind, has effect: $hasEffect, lasts: $lasts", async (fault) => {
    let at = 0;
    for (let isComplete = false; !isComplete;) {
      await reset();
      await arrange();
      const ports = createFaultyPorts({ ...fault, at: ++at });
      await run(ports);
      isComplete = ports.calls() < at;
      if (!isComplete) {
        await leasesEnd();
        const response = await healthy()(ring());
        expect(await response.json(), `after call ${at}`).toMatchObject({ remaining: 0 });
      }
      await expectPromisesKept();
    }
    // take, four manifests, enqueue, mirrors, the suspect alone, the last take, what was pruned, count.
    expect(at).toBeGreaterThan(15);
  }, 120_000);
});

describe("an intent that ends the function", () => {
  /** A run that is gone as soon as it touches the poison. */
  async function runOnce(): Promise<void> {
    const { promise: gone, resolve: go } = Promise.withResolvers<void>();
    const isPoison = (name: string) => name.startsWith("poison");
    const die = () => {
      go();
      return new Promise<never>(() => {});
    };
    const handler = createTestHandler(database, {
      store: { ...store, putOnce: (path, json) => isPoison(path) ? die() : store.putOnce(path, json) },
      queue: {
        ...queue,
        enqueue: (requests: DeploymentRequest[]) =>
          requests.some((request) => isPoison(request.service_schema)) ? die() : queue.enqueue(requests),
      },
    });
    await Promise.race([handler(ring()), gone]);
  }

  /** Each time one run that meets it, and one while its lease lasts. */
  async function runs(count: number): Promise<void> {
    for (let time = 0; time < count; time++) {
      await runOnce();
      await runOnce();
      await leasesEnd();
    }
  }

  test("takes nobody along: its batch-mates are enqueued after it was met twice, and it fails with the reason", async () => {
    for (const schema of ["mate_1", "poison", "mate_2"]) await insertService(database, schema);
    await runs(3);
    for (const schema of ["mate_1", "mate_2"]) {
      expect(await registryOf(database, schema), schema).toMatchObject([{ deployment_status: "pending", revision: 1 }]);
    }
    await insertService(database, "newcomer");
    await runs(3);
    expect(await registryOf(database, "newcomer")).toMatchObject([{ deployment_status: "pending" }]);
    expect(await registryOf(database, "poison")).toMatchObject([{
      deployment_status: "failed",
      error_code: "manifest_build_crashed",
      error_message: expect.stringMatching(/ended 5 times while .* "poison" revision 1\. .*osp\.redeploy\('poison'\)/),
      requested_at: expect.any(Date),
    }]);
  });

  test("and wants a stop is stopped all the same: a stop needs no function", async () => {
    for (const schema of ["poison", "poison_off"]) await insertService(database, schema);
    await healthy()(ring());
    await database.rows(`delete from osp.services where service_schema = 'poison'`);
    await database.rows(`update osp.services set enabled = false`);
    await runs(12);
    for (const [schema, source] of [["poison", "delete"], ["poison_off", "disable"]] as const) {
      expect(await registryOf(database, schema), schema).toMatchObject([
        { revision: 1, deployment_status: "stopped", logs: expect.stringContaining("superseded by revision 2") },
        { revision: 2, deployment_status: "pending", source, error_code: null, stop_requested_at: expect.any(Date) },
      ]);
    }
  });

  test("and failed as a stop, before that was mended, is stopped by the migration", async () => {
    for (const schema of ["deleted", "fine"]) await insertService(database, schema);
    await database.rows(`delete from osp.services where service_schema = 'deleted'`);
    await healthy()(ring());
    await database.rows(
      `update osp_metadata.worker_registry set deployment_status = 'failed' where service_schema = 'deleted'`,
    );
    const migration = new URL("../../supabase/migrations/20261126100300_pass_request_facts.sql", import.meta.url);
    for (let time = 0; time < 2; time++) await database.rows(readFileSync(migration, "utf8"));
    await healthy()(ring());
    expect(await registryOf(database, "deleted")).toMatchObject([
      { revision: 2, deployment_status: "failed" },
      { revision: 3, deployment_status: "pending", source: "delete" },
    ]);
    expect(await registryOf(database, "fine")).toMatchObject([{ revision: 1 }]);
  });

  test("is corrected: the next revision begins anew", async () => {
    await insertService(database, "poison");
    await runs(4);
    await database.rows(`update osp.services set service_name = 'Corrected'`);
    await healthy()(ring());
    expect(await registryOf(database, "poison")).toMatchObject([{ revision: 2, deployment_status: "pending" }]);
  });

  test("and cannot even be written down as failed does not end the taking of the others", async () => {
    for (const schema of ["unwritable", "fine"]) await insertService(database, schema);
    await database.rows(`update osp_metadata.service_intents set attempts = 5 where service_schema = 'unwritable'`);
    await database.rows(
      `alter table osp_metadata.worker_registry add constraint none_of_it check (service_schema <> 'unwritable')`,
    );
    await healthy()(ring());
    await healthy()(ring());
    await database.rows(`alter table osp_metadata.worker_registry drop constraint none_of_it`);
    expect(await registryOf(database, "fine")).toMatchObject([{ deployment_status: "pending" }]);
    await leasesEnd();
    await healthy()(ring());
    expect(await registryOf(database, "unwritable")).toMatchObject([{ deployment_status: "failed" }]);
  });
});
