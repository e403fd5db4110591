import { createHandler, type HandlerDeps } from "../../supabase/functions/queue-worker-build/handler.ts";
import type {
  Intent,
  IntentQueue,
  ManifestStore,
  PrunedObject,
  PrunedObjects,
} from "../../supabase/functions/queue-worker-build/intents.ts";
import type { TestDatabase } from "./database.ts";

const webhookSecret = "a secret of at least sixteen";
const endpoint = "http://127.0.0.1:9/{service_schema}/{activity}";

export interface MemoryStore extends ManifestStore {
  objects: Map<string, string>;
  /** While true, Storage does not answer. */
  isAway: boolean;
}

export function createMemoryStore(): MemoryStore {
  const store: MemoryStore = {
    objects: new Map(),
    isAway: false,
    putOnce: (path, json) => store.put(path, store.objects.get(path) ?? json),
    async put(path, json) {
      if (store.isAway) throw new Error("Cannot store: Storage is away");
      store.objects.set(path, json);
    },
    async remove(paths) {
      if (store.isAway) throw new Error("Cannot remove: Storage is away");
      for (const path of paths) store.objects.delete(path);
    },
  };
  return store;
}

/** The intents by SQL: what the Data API would call, without it. */
export function createSqlQueue(database: Pick<TestDatabase, "rows">): IntentQueue {
  return {
    take: () => database.rows<Intent>(`select * from osp_metadata.take_intents()`),
    enqueue: (deployments) =>
      database.rows(`select * from osp_metadata.enqueue_deployments($1)`, [JSON.stringify(deployments)]),
    async release(intents, why) {
      await database.rows(`select osp_metadata.release_intents($1, $2, $3, $4)`, [
        intents[0]?.lease_token,
        intents.map((intent) => intent.service_schema),
        why?.reason ?? null,
        why?.countsAsTry ?? false,
      ]);
    },
    async countWaiting() {
      const [row] = await database.rows<{ count: number }>(`select osp_metadata.count_waiting_intents() as count`);
      return row?.count ?? -1;
    },
  };
}

/** What retention let go of, by SQL. */
export function createSqlPrunedObjects(database: Pick<TestDatabase, "rows">): PrunedObjects {
  return {
    take: () => database.rows<PrunedObject>(`select * from osp_metadata.take_pruned_objects()`),
    async forget(objects, reason) {
      await database.rows(`select osp_metadata.forget_pruned_objects($1, $2, $3)`, [
        objects[0]?.lease_token,
        objects.map((object) => object.path),
        reason ?? null,
      ]);
    },
  };
}

export function createTestHandler(database: Pick<TestDatabase, "rows">, deps: Partial<HandlerDeps> = {}) {
  return createHandler({
    webhookSecret,
    defaults: { activityEndpoint: endpoint },
    queue: createSqlQueue(database),
    store: createMemoryStore(),
    pruned: createSqlPrunedObjects(database),
    ringAgain: () => {},
    log: () => {},
    now: () => performance.now(),
    ...deps,
  });
}

export function ring(headers: Record<string, string> = { "x-osp-webhook-secret": webhookSecret }): Request {
  return new Request("http://127.0.0.1/queue-worker-build", { method: "POST", body: "{}", headers });
}
