import { formatError } from "../_shared/problems.ts";
import type { CodeStore, ManifestStore, PrunedObjects } from "./intents.ts";

export interface PruningDeps {
  pruned: PrunedObjects;
  store: ManifestStore;
  unusedCode: PrunedObjects;
  code: CodeStore;
  log: (event: Record<string, unknown>) => void;
  /** Milliseconds on a clock that only goes forward. */
  now: () => number;
}

export interface Removal {
  removed: number;
  /** Whether more may wait, for another run. */
  hasMore: boolean;
}

/** A thousand objects of each kind; more of them are another run's. */
const BATCHES_A_RUN = 10;
/**
 * What was taken longer ago is left to another run: with the time that Storage has for an answer it must end well within its
 * lease of 30 s. Afterwards the same name may be somebody's again.
 */
const REMOVE_WITHIN_MS = 10_000;

/**
 * Removes what retention let go of from Storage, and code that nobody uses. Never throws: what cannot be removed now waits on.
 * To remove an object twice does no harm, so whatever gets lost on the way is taken again when its lease ends.
 *
 * @param isOver whether this run has no time left
 */
export async function removePruned(deps: PruningDeps, isOver: () => boolean): Promise<Removal> {
  const manifests = await removeAll(deps.pruned, deps.store, deps, isOver);
  const code = await removeAll(deps.unusedCode, deps.code, deps, isOver);
  return { removed: manifests.removed + code.removed, hasMore: manifests.hasMore || code.hasMore };
}

async function removeAll(
  pruned: PrunedObjects,
  store: { remove(paths: string[]): Promise<void> },
  { log, now }: Pick<PruningDeps, "log" | "now">,
  isOver: () => boolean,
): Promise<Removal> {
  let removed = 0;
  try {
    for (let batch = 0; batch < BATCHES_A_RUN && !isOver(); batch++) {
      const askedAt = now();
      const objects = await pruned.take();
      if (objects.length === 0) return { removed, hasMore: false };
      const paths = objects.map((object) => object.path);
      if (now() - askedAt > REMOVE_WITHIN_MS) throw new Error(tooLate(paths));
      const reason = await refusalOf(store.remove(paths));
      const forgotten = await pruned.forget(objects, reason);
      if (reason !== undefined) throw new Error(reason);
      // Storage was slow, or we were paused on the way to it: osp_metadata.check_code() tells what is missed.
      if (forgotten < objects.length) log({ event: "removal.late", paths });
      removed += objects.length;
    }
    return { removed, hasMore: true };
  } catch (error) {
    log({ event: "removal.failed", error: formatError(error) });
    return { removed, hasMore: false };
  } finally {
    if (removed > 0) log({ event: "objects.removed", objects: removed });
  }
}

function tooLate([first, ...others]: string[]): string {
  const what = others.length === 0 ? `${first}` : `${first} and ${others.length} more`;
  return `Cannot remove ${what}: this function was held up since it took that. It is removed when its lease has run out`;
}

/** Why it failed; undefined: it did not. */
async function refusalOf(work: Promise<void>): Promise<string | undefined> {
  try {
    await work;
    return undefined;
  } catch (error) {
    return formatError(error);
  }
}
