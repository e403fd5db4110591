import {
  buildManifest,
  type BuiltManifest,
  type ProjectDefaults,
  SpecRejectedError,
} from "../_shared/build-manifest.ts";
import { formatError } from "../_shared/problems.ts";
import { isSameSecret } from "./same-secret.ts";
import type { DeploymentRequest, Intent, IntentQueue, ManifestStore } from "./intents.ts";

export interface HandlerDeps {
  webhookSecret: string;
  defaults: ProjectDefaults;
  queue: IntentQueue;
  store: ManifestStore;
  /** Rings this function again, for what one run leaves. Does not wait for the answer. */
  ringAgain: () => void;
  log: (event: Record<string, unknown>) => void;
  /** Milliseconds on a clock that only goes forward. */
  now: () => number;
}

export interface Outcome {
  taken: number;
  enqueued: number;
  rejected: number;
  /** Intents that still wait, for a next run. */
  remaining: number;
}

/**
 * A run ends before the lease of what it took (30 s): an answer that gets lost holds its intents up no longer. And well
 * before the platform's 150 s.
 */
const RUN_MS = 20_000;
/** Keeps one run far below the platform's 2 s of CPU: about 1 ms an intent. */
const INTENTS_A_RUN = 500;
const UPLOADS_AT_ONCE = 8;

/** The doorbell's answer: takes what waits, stores its manifests, enqueues its deployments. Idempotent. */
export function createHandler(deps: HandlerDeps) {
  return async (request: Request): Promise<Response> => {
    await request.body?.cancel(); // the ring says that there is work, never which
    if (!await isSameSecret(request.headers.get("x-osp-webhook-secret"), deps.webhookSecret)) {
      return Response.json({ error: "Unauthorized", message: "x-osp-webhook-secret is missing or wrong" }, {
        status: 401,
      });
    }
    if (request.method !== "POST") {
      return Response.json({ error: "MethodNotAllowed", message: `${request.method}: only POST rings` }, {
        status: 405,
      });
    }
    return await answer(deps);
  };
}

async function answer(deps: HandlerDeps): Promise<Response> {
  const outcome: Outcome = { taken: 0, enqueued: 0, rejected: 0, remaining: 0 };
  try {
    await drain(deps, outcome);
    outcome.remaining = await deps.queue.countWaiting();
  } catch (error) {
    // What was taken waits on: given back where that was possible, else when its lease ends.
    deps.log({ event: "intents.failed", ...outcome, error: formatError(error) });
    return Response.json({ ...outcome, error: "Unavailable", message: formatError(error) }, { status: 503 });
  }
  if (outcome.taken > 0) deps.log({ event: "intents.enqueued", ...outcome });
  // Only after some work: what waits and cannot be taken (its row is locked) would ring for as long as it is.
  if (outcome.taken > 0 && outcome.remaining > 0) deps.ringAgain();
  return Response.json(outcome);
}

async function drain(deps: HandlerDeps, outcome: Outcome): Promise<void> {
  const deadline = deps.now() + RUN_MS;
  while (deps.now() < deadline && outcome.taken < INTENTS_A_RUN) {
    const intents = await deps.queue.take();
    if (intents.length === 0) return;
    outcome.taken += intents.length;
    await enqueue(intents, deps, outcome);
  }
}

/** One taking: what could be stored is enqueued, what could not is given back; then the failure is told. */
async function enqueue(intents: Intent[], deps: HandlerDeps, outcome: Outcome): Promise<void> {
  const prepared: Prepared[] = [];
  const unstored: Intent[] = [];
  let failure: unknown;
  for (let start = 0; start < intents.length; start += UPLOADS_AT_ONCE) {
    const batch = intents.slice(start, start + UPLOADS_AT_ONCE);
    await Promise.all(batch.map(async (intent) => {
      try {
        prepared.push(await prepare(intent, deps));
      } catch (error) {
        unstored.push(intent);
        failure = error;
      }
    }));
  }
  const enqueued = await deps.queue.enqueue(prepared.map(({ request }) => request));
  outcome.enqueued += enqueued.filter((row) => row.deployment_status === "pending").length;
  outcome.rejected += enqueued.filter((row) => row.deployment_status === "failed").length;

  const newest = new Set(enqueued.filter((row) => row.is_newest).map((row) => row.service_schema));
  await mirror(prepared.filter(({ request }) => newest.has(request.service_schema)), deps);
  if (unstored.length > 0) {
    await deps.queue.release(unstored);
    throw failure;
  }
}

interface Prepared {
  request: DeploymentRequest;
  built: BuiltManifest | undefined;
}

/** The deployment of one intent, its manifest stored. @throws when Storage cannot be reached */
async function prepare(intent: Intent, deps: HandlerDeps): Promise<Prepared> {
  if (intent.wanted === "stop") return { request: intent, built: undefined };
  let built: BuiltManifest;
  try {
    built = await buildManifest(intent.spec, intent.revision, deps.defaults);
  } catch (error) {
    // Only the row's author can help. Anything else that building throws is told the same way: it would be thrown again.
    const code = error instanceof SpecRejectedError ? error.code : "manifest_build_failed";
    return { request: { ...intent, error_code: code, error_message: formatError(error) }, built: undefined };
  }
  await deps.store.putOnce(`${intent.service_schema}/${intent.revision}-${built.sha256}.json`, built.json);
  return { request: { ...intent, manifest: built.manifest, manifest_sha256: built.sha256 }, built };
}

/** The newest manifest under a name that people find. Best effort: nothing reads it. */
async function mirror(prepared: Prepared[], deps: HandlerDeps): Promise<void> {
  await Promise.all(prepared.map(async ({ request, built }) => {
    if (built === undefined) return;
    try {
      await deps.store.put(`${request.service_schema}.json`, built.json);
    } catch (error) {
      deps.log({ event: "mirror.failed", service_schema: request.service_schema, error: formatError(error) });
    }
  }));
}
