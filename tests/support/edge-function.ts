import { createHandler, type HandlerDeps } from "../../supabase/functions/queue-worker-build/handler.ts";
import {
  CodeLeavingError,
  type CodeStore,
  type Intent,
  type IntentQueue,
  type ManifestStore,
  type PrunedObject,
  type PrunedObjects,
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

/** A Storage that has these archives, `<schema>/<code>`, and a list of them by SQL. */
export function createMemoryCode(database: Pick<TestDatabase, "rows">, archives: Set<string> = new Set()): CodeStore {
  return {
    async keep(schema, code) {
      const [row] = await database.rows<{ kept: boolean }>(`select osp_metadata.use_code($1, $2) as kept`, [
        schema,
        code,
      ]);
      if (row?.kept !== true) throw new CodeLeavingError("It is just being removed");
      return archives.has(`${schema}/${code}`);
    },
    async remove(paths) {
      for (const path of paths) archives.delete(path.replace(/\.tar\.gz$/, ""));
    },
  };
}

/** Code that nobody uses, by SQL. */
function createSqlUnusedCode(database: Pick<TestDatabase, "rows">): PrunedObjects {
  return takenBySql(database, "take_unused_code", "forget_unused_code");
}

/** What retention let go of, by SQL. */
export function createSqlPrunedObjects(database: Pick<TestDatabase, "rows">): PrunedObjects {
  return takenBySql(database, "take_pruned_objects", "forget_pruned_objects");
}

function takenBySql(database: Pick<TestDatabase, "rows">, take: string, forget: string): PrunedObjects {
  return {
    take: () => database.rows<PrunedObject>(`select * from osp_metadata.${take}()`),
    async forget(objects, reason) {
      const values = [objects[0]?.lease_token, objects.map((object) => object.path), reason ?? null];
      const [row] = await database.rows<{ count: number }>(
        `select osp_metadata.${forget}($1, $2, $3) as count`,
        values,
      );
      return row?.count ?? -1;
    },
  };
}

export function createTestHandler(database: Pick<TestDatabase, "rows">, deps: Partial<HandlerDeps> = {}) {
  return createHandler({
    webhookSecret,
    defaults: { activityEndpoint: endpoint },
    queue: createSqlQueue(database),
    store: createMemoryStore(),
    code: createMemoryCode(database),
    pruned: createSqlPrunedObjects(database),
    unusedCode: createSqlUnusedCode(database),
    ringAgain: () => {},
    log: () => {},
    now: () => performance.now(),
    ...deps,
  });
}

export function ring(headers: Record<string, string> = { "x-osp-webhook-secret": webhookSecret }): Request {
  return new Request("http://127.0.0.1/queue-worker-build", { method: "POST", body: "{}", headers });
}
