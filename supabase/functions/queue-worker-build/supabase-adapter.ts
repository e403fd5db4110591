import { createClient, type SupabaseClient } from "@supabase/supabase-js";
import { z } from "zod";
import {
  type Enqueued,
  enqueuedSchema,
  EnqueueRefusedError,
  type Intent,
  type IntentQueue,
  intentSchema,
  type ManifestStore,
  type PrunedObject,
  type PrunedObjects,
  prunedObjectSchema,
} from "./intents.ts";
import { explainRefusal } from "./storage-refusal.ts";

const BUCKET = "manifests";
/** A request that gets no answer must not outlive the run. */
const REQUEST_TIMEOUT_MS = 10_000;

export function connect(url: string, secretKey: string): SupabaseClient {
  return createClient(url, secretKey, {
    auth: { persistSession: false, autoRefreshToken: false, detectSessionInUrl: false },
    global: {
      fetch: (input, init) => {
        const timeout = AbortSignal.timeout(REQUEST_TIMEOUT_MS);
        return fetch(input, { ...init, signal: init?.signal ? AbortSignal.any([init.signal, timeout]) : timeout });
      },
    },
  });
}

function createCall(client: SupabaseClient) {
  return async <Row>(name: string, parameters: object, result: z.ZodType<Row>): Promise<Row> => {
    const { data, error } = await client.schema("osp_metadata").rpc(name, parameters);
    if (error) {
      const message = `Cannot call osp_metadata.${name}: ${[error.code, error.message].filter(Boolean).join(" ")}`;
      throw isRefusal(error.code) ? new EnqueueRefusedError(message) : new Error(message);
    }
    return result.parse(data);
  };
}

/** The intents through the Data API. */
export function createIntentQueue(client: SupabaseClient): IntentQueue {
  const call = createCall(client);
  return {
    take: () => call<Intent[]>("take_intents", {}, z.array(intentSchema)),
    enqueue: async (deployments) =>
      deployments.length === 0
        ? []
        : await call<Enqueued[]>("enqueue_deployments", { deployments }, z.array(enqueuedSchema)),
    release: async (intents, why) => {
      const [first] = intents;
      if (first === undefined) return;
      const schemas = intents.map((intent) => intent.service_schema);
      const reason = why && { reason: why.reason, counts_as_try: why.countsAsTry };
      await call("release_intents", { lease_token: first.lease_token, schemas, ...reason }, z.int());
    },
    countWaiting: () => call("count_waiting_intents", {}, z.int()),
  };
}

/** What retention let go of, through the Data API. */
export function createPrunedObjects(client: SupabaseClient): PrunedObjects {
  const call = createCall(client);
  return {
    take: () => call<PrunedObject[]>("take_pruned_objects", {}, z.array(prunedObjectSchema)),
    async forget(objects, reason) {
      const [first] = objects;
      if (first === undefined) return;
      const paths = objects.map((object) => object.path);
      await call("forget_pruned_objects", { lease_token: first.lease_token, paths, reason }, z.int());
    },
  };
}

/** SQLSTATE classes 22 and 23: the data itself cannot be written. Everything else may pass. */
function isRefusal(code: string): boolean {
  return /^2[23]...$/.test(code);
}

/** Manifests in Supabase Storage. */
export function createManifestStore(client: SupabaseClient): ManifestStore {
  const upload = async (path: string, json: string, options: { upsert: boolean; cacheControl: string }) => {
    const { error } = await client.storage.from(BUCKET).upload(path, json, {
      contentType: "application/json",
      ...options,
    });
    if (error === null) return;
    const refusal = explainRefusal(error, BUCKET, { verb: "upload", bytes: new TextEncoder().encode(json).length });
    if (options.upsert || !refusal.isDuplicate) throw refusal.error;
  };
  return {
    putOnce: (path, json) => upload(path, json, { upsert: false, cacheControl: "31536000" }),
    put: (path, json) => upload(path, json, { upsert: true, cacheControl: "0" }),
    async remove(paths) {
      const { error } = await client.storage.from(BUCKET).remove(paths);
      if (error !== null) throw explainRefusal(error, BUCKET, { verb: "removal" }).error;
    },
  };
}
