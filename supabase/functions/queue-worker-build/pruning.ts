import { formatError } from "../_shared/problems.ts";
import type { ManifestStore, PrunedObjects } from "./intents.ts";

export interface PruningDeps {
  pruned: PrunedObjects;
  store: ManifestStore;
  log: (event: Record<string, unknown>) => void;
}

export interface Removal {
  removed: number;
  /** Whether more may wait, for another run. */
  hasMore: boolean;
}

/** A thousand objects; more of them are another run's. */
const BATCHES_A_RUN = 10;

/**
 * Removes what retention let go of from Storage. Never throws: what cannot be removed now waits on. To remove an object
 * twice does no harm, so whatever gets lost on the way is taken again when its lease ends.
 *
 * @param isOver whether this run has no time left
 */
export async function removePruned(deps: PruningDeps, isOver: () => boolean): Promise<Removal> {
  let removed = 0;
  try {
    for (let batch = 0; batch < BATCHES_A_RUN && !isOver(); batch++) {
      const objects = await deps.pruned.take();
      if (objects.length === 0) return { removed, hasMore: false };
      const reason = await refusalOf(deps.store.remove(objects.map((object) => object.path)));
      await deps.pruned.forget(objects, reason);
      if (reason !== undefined) throw new Error(reason);
      removed += objects.length;
    }
    return { removed, hasMore: true };
  } catch (error) {
    deps.log({ event: "removal.failed", error: formatError(error) });
    return { removed, hasMore: false };
  } finally {
    if (removed > 0) deps.log({ event: "objects.removed", objects: removed });
  }
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
