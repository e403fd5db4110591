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

/** The intents through the Data API. */
export function createIntentQueue(client: SupabaseClient): IntentQueue {
  const call = async <Row>(name: string, parameters: object, result: z.ZodType<Row>): Promise<Row> => {
    const { data, error } = await client.schema("osp_metadata").rpc(name, parameters);
    if (error) {
      const message = `Cannot call osp_metadata.${name}: ${[error.code, error.message].filter(Boolean).join(" ")}`;
      throw isRefusal(error.code) ? new EnqueueRefusedError(message) : new Error(message);
    }
    return result.parse(data);
  };
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
    const refusal = explainRefusal(error, BUCKET, new TextEncoder().encode(json).length);
    if (options.upsert || !refusal.isDuplicate) throw refusal.error;
  };
  return {
    putOnce: (path, json) => upload(path, json, { upsert: false, cacheControl: "31536000" }),
    put: (path, json) => upload(path, json, { upsert: true, cacheControl: "0" }),
  };
}
