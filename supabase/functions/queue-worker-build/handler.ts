import { formatError } from "../_shared/problems.ts";
import { isSameSecret } from "./same-secret.ts";
import { CodeLeavingError } from "./intents.ts";
import { type PruningDeps, type Removal, removePruned } from "./pruning.ts";
import { enqueueTaken, giveBack, type HeldUp, type TakingDeps } from "./taking.ts";

export interface HandlerDeps extends TakingDeps, PruningDeps {
  webhookSecret: string;
  /** Rings this function again, for what one run leaves. Does not wait for the answer. */
  ringAgain: () => void;
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
  const deadline = deps.now() + RUN_MS;
  const isOver = () => deps.now() >= deadline;
  let removal: Removal;
  try {
    const leaving = await drain(deps, outcome, isOver);
    removal = await removePruned(deps, isOver);
    // What waits for a removal waits for this very one, where its function went away.
    if (leaving !== undefined && removal.removed === 0) throw leaving;
    outcome.remaining = await deps.queue.countWaiting();
  } catch (error) {
    // What was taken waits on: given back where that was possible, else when its lease ends.
    deps.log({ event: "intents.failed", ...outcome, error: formatError(error) });
    return Response.json({ ...outcome, error: "Unavailable", message: formatError(error) }, { status: 503 });
  }
  if (outcome.taken > 0) deps.log({ event: "intents.enqueued", ...outcome });
  // Only after some work: what waits and cannot be enqueued (its row is locked) would ring for as long as it is.
  const hasWorked = outcome.enqueued + outcome.rejected + removal.removed > 0;
  if (hasWorked && (outcome.remaining > 0 || removal.hasMore)) deps.ringAgain();
  return Response.json(outcome);
}

/** @returns why intents wait for code to be removed; undefined: none does. @throws what keeps others from being enqueued */
async function drain(
  deps: HandlerDeps,
  outcome: Outcome,
  isOver: () => boolean,
): Promise<CodeLeavingError | undefined> {
  // Held until the end, else the next taking would take it again, before all that waits behind it.
  const heldUp: HeldUp[][] = [];
  try {
    while (!isOver() && outcome.taken < INTENTS_A_RUN) {
      const intents = await deps.queue.take();
      if (intents.length === 0) break;
      outcome.taken += intents.length;
      const taking = await enqueueTaken(intents, deps);
      heldUp.push(taking.heldUp);
      outcome.enqueued += taking.enqueued.filter((row) => row.deployment_status === "pending").length;
      outcome.rejected += taking.enqueued.filter((row) => row.deployment_status === "failed").length;
      // Another taking would meet the same obstacle.
      const failed = taking.heldUp.find(({ error }) => error !== undefined && !(error instanceof CodeLeavingError));
      if (failed !== undefined) throw failed.error;
    }
  } finally {
    for (const ofOneTaking of heldUp) await giveBack(ofOneTaking, deps);
  }
  return heldUp.flat().map(({ error }) => error).find((error) => error instanceof CodeLeavingError);
}
