import { formatError } from "../_shared/problems.ts";
import type { CodeStore, ManifestStore, PrunedObjects } from "./intents.ts";

export interface PruningDeps {
  pruned: PrunedObjects;
  store: ManifestStore;
  unusedCode: PrunedObjects;
  code: CodeStore;
  log: (event: Record<string, unknown>) => void;
}

export interface Removal {
  removed: number;
  /** Whether more may wait, for another run. */
  hasMore: boolean;
}

/** A thousand objects of each kind; more of them are another run's. */
const BATCHES_A_RUN = 10;

/**
 * Removes what retention let go of from Storage, and code that nobody uses. Never throws: what cannot be removed now waits on.
 * To remove an object twice does no harm, so whatever gets lost on the way is taken again when its lease ends.
 *
 * @param isOver whether this run has no time left
 */
export async function removePruned(deps: PruningDeps, isOver: () => boolean): Promise<Removal> {
  const manifests = await removeAll(deps.pruned, deps.store, deps.log, isOver);
  const code = await removeAll(deps.unusedCode, deps.code, deps.log, isOver);
  return { removed: manifests.removed + code.removed, hasMore: manifests.hasMore || code.hasMore };
}

async function removeAll(
  pruned: PrunedObjects,
  store: { remove(paths: string[]): Promise<void> },
  log: PruningDeps["log"],
  isOver: () => boolean,
): Promise<Removal> {
  let removed = 0;
  try {
    for (let batch = 0; batch < BATCHES_A_RUN && !isOver(); batch++) {
      const objects = await pruned.take();
      if (objects.length === 0) return { removed, hasMore: false };
      const reason = await refusalOf(store.remove(objects.map((object) => object.path)));
      await pruned.forget(objects, reason);
      if (reason !== undefined) throw new Error(reason);
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

/** Why it failed; undefined: it did not. */
async function refusalOf(work: Promise<void>): Promise<string | undefined> {
  try {
    await work;
    return undefined;
  } catch (error) {
    return formatError(error);
  }
}
