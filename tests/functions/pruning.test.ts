import { beforeEach, describe, expect, onTestFinished, test } from "vitest";
import {
  connect,
  createManifestStore,
  createPrunedObjects,
} from "../../supabase/functions/queue-worker-build/supabase-adapter.ts";
import { useApi } from "../client/api.ts";
import { KEYS } from "../local/stand.ts";
import { useDatabase } from "../support/database.ts";
import {
  createMemoryStore,
  createSqlPrunedObjects,
  createTestHandler,
  type MemoryStore,
  ring,
} from "../support/edge-function.ts";
import { insertHistory } from "../support/registry-rows.ts";
import { clearServices, insertService, registryOf } from "../support/services.ts";

const database = useDatabase();
let store: MemoryStore;
beforeEach(async () => {
  store = createMemoryStore();
  await clearServices(database);
  await database.rows(`delete from osp_metadata.pruned_objects`);
  await database.rows(`update osp_metadata.retention set keep_days = 0, keep_revisions = 1`);
});

async function run(deps: Parameters<typeof createTestHandler>[1] = {}): Promise<number> {
  return (await createTestHandler(database, { store, ...deps })(ring())).status;
}
const listed = () =>
  database.rows<{ path: string; last_error: string | null }>(
    `select path, last_error from osp_metadata.pruned_objects order by path`,
  );
const prune = () => database.rows(`select osp_metadata.prune()`);
/** All that waits or runs has ended. */
const ended = () =>
  database.rows(
    `update osp_metadata.worker_registry set deployment_status = 'stopped', stopped_at = clock_timestamp() where stopped_at is null`,
  );
const present = () => [...store.objects.keys()].sort();

/** A service that was deployed twice, deleted and removed, and is pruned altogether; its objects are still there. */
async function pruneDeleted(schema: string): Promise<string[]> {
  await insertService(database, schema);
  await run();
  await database.rows(`update osp.services set service_name = 'Two'`);
  await run();
  await database.rows(`delete from osp.services`);
  await run();
  await ended();
  const before = present();
  await prune();
  expect(await registryOf(database, schema)).toEqual([]);
  return before;
}

test("a ring removes the objects that nobody keeps, and no other", async () => {
  await insertService(database, "kept");
  await run();
  await database.rows(`update osp.services set service_name = 'Two'`);
  await run();
  await ended();
  const [mirror, first, second] = present();
  await prune();
  expect(await listed()).toEqual([{ path: first, last_error: null }]);
  const events: unknown[] = [];
  expect(await run({ log: (event) => events.push(event) })).toBe(200);
  expect(present()).toEqual([mirror, second]);
  expect(await listed()).toEqual([]);
  expect(events).toEqual([{ event: "objects.removed", objects: 1 }]);
});

test("of a service that was deleted all of them go, the mirror too", async () => {
  expect(await pruneDeleted("gone")).toHaveLength(3);
  await run();
  expect(present()).toEqual([]);
  expect(await listed()).toEqual([]);
});

test("a Storage that refuses: the ring succeeds, the reason is written down, nothing is tried for a minute, then it goes", async () => {
  const before = await pruneDeleted("gone");
  store.isAway = true;
  const events: unknown[] = [];
  expect(await run({ log: (event) => events.push(event) })).toBe(200);
  expect(events).toEqual([{ event: "removal.failed", error: "Cannot remove: Storage is away" }]);
  expect(await listed()).toEqual(
    before.map((path) => ({ path, last_error: "Cannot remove: Storage is away" })),
  );
  store.isAway = false;
  await run();
  expect(present()).toEqual(before);
  expect(await database.rows(`select osp_metadata.prune() as waiting`)).toEqual([{ waiting: 0 }]);
  await database.rows(`update osp_metadata.pruned_objects set last_error_at = last_error_at - interval '1 minute'`);
  await run();
  expect(present()).toEqual([]);
});

test("an acknowledgement that gets lost: they are removed once more, which changes nothing", async () => {
  await pruneDeleted("gone");
  const pruned = createSqlPrunedObjects(database);
  const events: unknown[] = [];
  await run({
    pruned: { ...pruned, forget: () => Promise.reject(new Error("the answer is lost")) },
    log: (event) => events.push(event),
  });
  expect(events).toEqual([{ event: "removal.failed", error: "the answer is lost" }]);
  expect(present()).toEqual([]);
  expect(await listed()).toHaveLength(3);
  await run();
  expect(await listed()).toHaveLength(3); // leased
  await database.rows(`update osp_metadata.pruned_objects set lease_expires_at = clock_timestamp()`);
  await database.rows(`update osp_metadata.service_intents set lease_expires_at = clock_timestamp()`);
  await run();
  expect(await listed()).toEqual([]);
});

test("functions at the same time remove each object once", async () => {
  await insertHistory(database, "many", Array.from({ length: 1500 }, (_, index) => ({ revision: index + 1 })));
  await prune();
  await prune();
  const removed: string[] = [];
  store.remove = async (paths) => void removed.push(...paths);
  const rings: string[] = [];
  await Promise.all(Array.from({ length: 4 }, () => run({ ringAgain: () => rings.push("ring") })));
  expect(removed).toHaveLength(1499);
  expect(new Set(removed).size).toBe(1499);
});

test("what one run does not get done is another's, for which it rings", async () => {
  await insertHistory(database, "many", Array.from({ length: 1102 }, (_, index) => ({ revision: index + 1 })));
  await prune();
  await prune();
  const rings: string[] = [];
  await run({ ringAgain: () => rings.push("ring") });
  expect(await listed()).toHaveLength(101);
  expect(rings).toEqual(["ring"]);
  await run({ ringAgain: () => rings.push("ring") });
  expect(await listed()).toEqual([]);
  expect(rings).toEqual(["ring"]);
});

describe("what was stored for a revision that was not enqueued after all", () => {
  /** A run that is held up by an edit between storing and enqueueing, and the edit, still open. */
  async function heldUp() {
    await insertService(database, "edited");
    const editor = await database.connect();
    onTestFinished(() => editor.end());
    const putOnce = store.putOnce;
    store.putOnce = async (path, json) => {
      await putOnce(path, json);
      await editor.query(`begin; update osp.services set service_name = 'Edited'`);
    };
    await run();
    store.putOnce = putOnce;
    expect(present()).toEqual([expect.stringMatching(/^edited\/1-/)]);
    await database.rows(`update osp_metadata.pruned_objects set lease_expires_at = null`);
    return { editor, stored: present()[0] };
  }
  const leaseEnds = () => database.rows(`update osp_metadata.service_intents set lease_expires_at = clock_timestamp()`);

  test("goes once a newer revision is", async () => {
    const { editor } = await heldUp();
    await run();
    expect(present()).toHaveLength(1); // it may be needed yet
    await editor.query("commit");
    await leaseEnds();
    await run();
    expect(present()).toEqual(["edited.json", expect.stringMatching(/^edited\/2-/)]);
    expect(await listed()).toEqual([]);
  });

  test("stays if it is enqueued when the edit was rolled back", async () => {
    const { editor, stored } = await heldUp();
    await editor.query("rollback");
    await leaseEnds();
    await run();
    expect(present()).toEqual(["edited.json", stored]);
    expect(await listed()).toEqual([]);
  });

  test("goes where another function enqueued it with other bytes", async () => {
    await insertService(database, "twice");
    const putOnce = store.putOnce;
    store.putOnce = async (path, json) => {
      await putOnce(path, json);
      store.putOnce = putOnce;
      await leaseEnds();
      await run({ defaults: { activityEndpoint: "http://another.example/{activity}" } });
    };
    await run();
    expect(present()).toEqual(["twice.json", expect.stringMatching(/^twice\/1-/)]);
    const [row] = await database.rows<{ manifest: { options: object } }>(`select * from osp_metadata.worker_registry`);
    expect(row?.manifest.options).toMatchObject({ activity_endpoint: "http://another.example/{activity}" });
    expect(JSON.parse(store.objects.get(present()[1] ?? "") ?? "")).toEqual(row?.manifest);
  });
});

describe("a service that comes back keeps what it needs", () => {
  test("the mirror, which its new revision wrote before the old one was removed", async () => {
    await pruneDeleted("back");
    await insertService(database, "back", { name: "Back again" });
    await run();
    expect(present()).toEqual(["back.json", expect.stringMatching(/^back\/4-/)]);
    expect(JSON.parse(store.objects.get("back.json") ?? "")).toMatchObject({ revision: 4, service_name: "Back again" });
    expect(await listed()).toEqual([]);
  });

  test("the mirror, which is being removed just now: its new revision waits for that", async () => {
    await pruneDeleted("back");
    const remove = store.remove;
    const meanwhile = createTestHandler(database, { store });
    store.remove = async (paths) => {
      await insertService(database, "back", { name: "Back again" });
      expect(await (await meanwhile(ring())).json()).toMatchObject({ taken: 0, remaining: 0 });
      store.remove = remove;
      await remove(paths);
    };
    const rings: string[] = [];
    await run({ ringAgain: () => rings.push("ring") });
    expect(present()).toEqual([]);
    expect(rings).toEqual(["ring"]); // for what waited
    await run();
    expect(present()).toEqual(["back.json", expect.stringMatching(/^back\/4-/)]);
  });

  test("an object whose number comes again, because the intents were lost", async () => {
    await insertService(database, "again");
    await run();
    const [, path = ""] = present();
    await database.rows(
      `insert into osp_metadata.pruned_objects (path, service_schema, revision) values ($1, 'again', 1)`,
      [path],
    );
    await run();
    expect(present()).toContain(path);
    expect(await listed()).toEqual([]);
  });

  test("an object that is just being written under such a number", async () => {
    await insertService(database, "again");
    const putOnce = store.putOnce;
    store.putOnce = async (path, json) => {
      await putOnce(path, json);
      await database.rows(
        `insert into osp_metadata.pruned_objects (path, service_schema, revision) values ($1, 'again', 1)`,
        [path],
      );
      await createTestHandler(database, { store })(ring());
    };
    await run();
    expect(present()).toEqual(["again.json", expect.stringMatching(/^again\/1-/)]);
    expect(await listed()).toEqual([]);
  });

  test("of a service that no intent knows any more the objects go", async () => {
    await pruneDeleted("unknown");
    await database.rows(`delete from osp_metadata.service_intents`);
    await run();
    expect(present()).toEqual(["unknown.json"]); // its mirror may be another's by now
    expect(await listed()).toEqual([]);
  });
});

describe("through Supabase's Storage API", () => {
  const api = useApi(database);
  const bucket =
    `insert into storage.buckets (id, name, public) values ('manifests', 'manifests', false) on conflict (id) do nothing`;
  const objects = () => database.rows(`select name from storage.objects order by name`);
  beforeEach(async () => void await database.rows(bucket));

  function realRun(storage: { url?: string; key?: string } = {}): Promise<number> {
    return run({
      pruned: createPrunedObjects(connect(api.url, KEYS.SECRET_KEY)),
      store: createManifestStore(connect(storage.url ?? api.url, storage.key ?? KEYS.SECRET_KEY)),
    });
  }

  test("they are gone, and one that was gone already is no failure", async () => {
    await insertService(database, "a");
    await realRun();
    await database.rows(`delete from osp.services`);
    await realRun();
    await ended();
    expect(await objects()).toHaveLength(2);
    await prune();
    await createManifestStore(connect(api.url, KEYS.SECRET_KEY)).remove(["a.json"]);
    await realRun();
    expect(await objects()).toEqual([]);
    expect(await listed()).toEqual([]);
  });

  test.each([
    ["a wrong key", { key: "sb_secret_wrong" }, /SUPABASE_SECRET_KEYS/],
    ["no answer", { url: "http://127.0.0.1:9" }, /^Storage does not answer: /],
  ])("%s is told", async (_title, storage, reason) => {
    await database.rows(
      `insert into osp_metadata.pruned_objects (path, service_schema, revision) values ('a/1-x.json', 'a', 1)`,
    );
    expect(await realRun(storage)).toBe(200);
    expect(await listed()).toEqual([{ path: "a/1-x.json", last_error: expect.stringMatching(reason) }]);
  });
});
