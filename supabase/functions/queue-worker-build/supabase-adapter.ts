import { createClient, type SupabaseClient } from "@supabase/supabase-js";
import { z } from "zod";
import { CODE_BUCKET, codeObject } from "../_shared/service-code.ts";
import {
  CodeLeavingError,
  type CodeStore,
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
  return takenBy(client, "take_pruned_objects", "forget_pruned_objects");
}

/** Code that nobody uses, through the Data API. */
export function createUnusedCode(client: SupabaseClient): PrunedObjects {
  return takenBy(client, "take_unused_code", "forget_unused_code");
}

function takenBy(client: SupabaseClient, take: string, forget: string): PrunedObjects {
  const call = createCall(client);
  return {
    take: () => call<PrunedObject[]>(take, {}, z.array(prunedObjectSchema)),
    async forget(objects, reason) {
      const [first] = objects;
      if (first === undefined) return 0;
      const paths = objects.map((object) => object.path);
      return await call(forget, { lease_token: first.lease_token, paths, reason }, z.int());
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
    remove: (paths) => removeObjects(client, BUCKET, paths),
  };
}

/** Services' own code in Supabase Storage, and the list of it through the Data API. */
export function createCodeStore(client: SupabaseClient): CodeStore {
  const call = createCall(client);
  return {
    async keep(service_schema, code) {
      if (!await call("use_code", { service_schema, code }, z.boolean())) {
        throw new CodeLeavingError(
          `Code ${code} of service "${service_schema}" is just being removed: in a moment again`,
        );
      }
      const { error } = await client.storage.from(CODE_BUCKET).info(codeObject(service_schema, code));
      if (error === null) return true;
      const refusal = explainRefusal(error, CODE_BUCKET, { verb: "look" });
      if (refusal.isMissing) return false;
      throw refusal.error;
    },
    remove: (paths) => removeObjects(client, CODE_BUCKET, paths),
  };
}

async function removeObjects(client: SupabaseClient, bucket: string, paths: string[]): Promise<void> {
  const { error } = await client.storage.from(bucket).remove(paths);
  if (error !== null) throw explainRefusal(error, bucket, { verb: "removal" }).error;
}
