import {
  buildManifest,
  type BuiltManifest,
  type ProjectDefaults,
  SpecRejectedError,
} from "../_shared/build-manifest.ts";
import { formatError } from "../_shared/problems.ts";
import type { DeploymentRequest, Enqueued, Intent, IntentQueue, ManifestStore } from "./intents.ts";

export interface TakingDeps {
  defaults: ProjectDefaults;
  queue: IntentQueue;
  store: ManifestStore;
  log: (event: Record<string, unknown>) => void;
}

/** What could not be enqueued. Without an error it was not accepted, which is no failure: it is edited, or was lost to another. */
export interface HeldUp {
  intent: Intent;
  error?: unknown;
}

export interface Taking {
  enqueued: Enqueued[];
  /** What was given back. */
  heldUp: HeldUp[];
}

interface Prepared {
  request: DeploymentRequest;
  built: BuiltManifest | undefined;
}

const UPLOADS_AT_ONCE = 8;

/** One taking: what can be stored is enqueued, everything else is given back. */
export async function enqueueTaken(intents: Intent[], deps: TakingDeps): Promise<Taking> {
  const heldUp: HeldUp[] = [];
  const prepared = await prepareAll(intents, heldUp, deps);
  const enqueued = await enqueue(prepared.map(({ request }) => request), heldUp, deps);
  await giveBack(heldUp, deps);

  const newest = new Set(enqueued.filter((row) => row.is_newest).map((row) => row.service_schema));
  await mirror(prepared.filter(({ request }) => newest.has(request.service_schema)), deps);
  return { enqueued, heldUp };
}

async function prepareAll(intents: Intent[], heldUp: HeldUp[], deps: TakingDeps): Promise<Prepared[]> {
  const prepared: Prepared[] = [];
  for (let start = 0; start < intents.length; start += UPLOADS_AT_ONCE) {
    const batch = intents.slice(start, start + UPLOADS_AT_ONCE);
    await Promise.all(batch.map(async (intent) => {
      try {
        prepared.push(await prepare(intent, deps));
      } catch (error) {
        heldUp.push({ intent, error });
      }
    }));
  }
  return prepared;
}

/** The deployment of one intent, its manifest stored. @throws when Storage cannot be reached */
async function prepare(intent: Intent, deps: TakingDeps): Promise<Prepared> {
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

async function enqueue(requests: DeploymentRequest[], heldUp: HeldUp[], deps: TakingDeps): Promise<Enqueued[]> {
  try {
    const enqueued = await deps.queue.enqueue(requests);
    const accepted = new Set(enqueued.map((row) => row.service_schema));
    heldUp.push(...requests.filter((request) => !accepted.has(request.service_schema)).map((intent) => ({ intent })));
    return enqueued;
  } catch (error) {
    heldUp.push(...requests.map((intent) => ({ intent, error })));
    return [];
  }
}

/** Best effort: what cannot be given back waits until its lease ends. */
async function giveBack(heldUp: HeldUp[], deps: TakingDeps): Promise<void> {
  if (heldUp.length === 0) return;
  try {
    await deps.queue.release(heldUp.map(({ intent }) => intent));
  } catch (error) {
    deps.log({ event: "release.failed", error: formatError(error) });
  }
}

/** The newest manifest under a name that people find. Best effort: nothing reads it. */
async function mirror(prepared: Prepared[], deps: TakingDeps): Promise<void> {
  await Promise.all(prepared.map(async ({ request, built }) => {
    if (built === undefined) return;
    try {
      await deps.store.put(`${request.service_schema}.json`, built.json);
    } catch (error) {
      deps.log({ event: "mirror.failed", service_schema: request.service_schema, error: formatError(error) });
    }
  }));
}
