import {
  buildManifest,
  type BuiltManifest,
  type ProjectDefaults,
  SpecRejectedError,
} from "../_shared/build-manifest.ts";
import { formatError } from "../_shared/problems.ts";
import {
  type CodeStore,
  type DeploymentRequest,
  type Enqueued,
  EnqueueRefusedError,
  type Intent,
  type IntentQueue,
  type ManifestStore,
  ObjectTooLargeError,
} from "./intents.ts";

export interface TakingDeps {
  defaults: ProjectDefaults;
  queue: IntentQueue;
  store: ManifestStore;
  code: CodeStore;
  log: (event: Record<string, unknown>) => void;
}

/**
 * What could not be enqueued. Without an error it was not accepted, which is no failure: it is edited, what it replaces is
 * locked, or it was lost to another.
 */
export interface HeldUp {
  intent: Intent;
  error?: unknown;
}

export interface Taking {
  enqueued: Enqueued[];
  /** What is to be given back. */
  heldUp: HeldUp[];
}

interface Prepared {
  request: DeploymentRequest;
  built: BuiltManifest | undefined;
}

const UPLOADS_AT_ONCE = 8;

/** One taking: what can be stored is enqueued; everything else is the caller's to give back. */
export async function enqueueTaken(intents: Intent[], deps: TakingDeps): Promise<Taking> {
  const heldUp: HeldUp[] = [];
  const prepared = await prepareAll(intents, heldUp, deps);
  const enqueued = await enqueue(prepared.map(({ request }) => request), heldUp, deps);

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

/** The deployment of one intent, its manifest stored. @throws when Storage cannot be reached, or refuses all manifests */
async function prepare(intent: Intent, deps: TakingDeps): Promise<Prepared> {
  if (intent.wanted === "stop") return { request: intent, built: undefined };
  let built: BuiltManifest;
  try {
    built = await buildManifest(intent.spec, intent.revision, deps.defaults);
  } catch (error) {
    // Only the row's author can help. Anything else that building throws is told the same way: it would be thrown again.
    return refuse(
      intent,
      error instanceof SpecRejectedError ? error.code : "manifest_build_failed",
      formatError(error),
    );
  }
  const { code } = built.manifest.options;
  if (code !== undefined && !(await deps.code.keep(intent.service_schema, code))) {
    return refuse(intent, "code_missing", codeMissing(intent, code));
  }
  try {
    await deps.store.putOnce(`${intent.service_schema}/${intent.revision}-${built.sha256}.json`, built.json);
  } catch (error) {
    if (!(error instanceof ObjectTooLargeError)) throw error;
    return refuse(intent, "manifest_too_large", tooLarge(intent, error));
  }
  return { request: { ...intent, manifest: built.manifest, manifest_sha256: built.sha256 }, built };
}

function refuse(intent: Intent, error_code: string, error_message: string): Prepared {
  return { request: { ...intent, error_code, error_message }, built: undefined };
}

function codeMissing({ service_schema, revision }: Intent, code: string): string {
  return `Service "${service_schema}" revision ${revision} names code ${code}, which Storage does not have: push it by ` +
    `\`osp code push ${service_schema} <directory>\` and name what that prints; or, where it prints the same, then: ` +
    `select osp.redeploy('${service_schema}')`;
}

function tooLarge({ service_schema, revision }: Intent, error: ObjectTooLargeError): string {
  return `Cannot store the manifest of service "${service_schema}" revision ${revision}: ${
    formatError(error)
  }. Shorten ` +
    `workflows or options of the row in osp.services; or raise file_size_limit of the bucket in storage.buckets and ` +
    `then: select osp.redeploy('${service_schema}')`;
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

/** Gives back what of one taking was held up. Best effort: what cannot be given back waits until its lease ends. */
export async function giveBack(heldUp: HeldUp[], deps: TakingDeps): Promise<void> {
  // What is in the way is mostly the same for all.
  const byReason = Map.groupBy(heldUp, ({ error }) => error === undefined ? undefined : formatError(error));
  for (const [reason, group] of byReason) {
    const countsAsTry = group.some(({ error }) => error instanceof EnqueueRefusedError);
    try {
      const intents = group.map(({ intent }) => intent);
      await deps.queue.release(intents, reason === undefined ? undefined : { reason, countsAsTry });
    } catch (error) {
      deps.log({ event: "release.failed", error: formatError(error) });
    }
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
