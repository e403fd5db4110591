import { z } from "zod";

/** A taken intent: what `osp_metadata.take_intents` returns. */
export const intentSchema = z.object({
  service_schema: z.string(),
  revision: z.int(),
  wanted: z.enum(["run", "stop"]),
  source: z.string(),
  /** Revision whose spec a rollback brought back; null: it is no rollback. */
  rolled_back_to: z.int().nullable(),
  requested_at: z.string(),
  requested_by: z.string(),
  deployment_id: z.string(),
  /** The right to enqueue it; the same for all of one taking. */
  lease_token: z.string(),
  /** The row of `osp.services` at that revision; null: it is gone. */
  spec: z.unknown(),
  /** What the database compares that row by. Handed back as it came: a number of `spec` may not survive JavaScript. */
  spec_hash: z.string().nullable(),
});
export type Intent = z.infer<typeof intentSchema>;

/** One element of the argument of `osp_metadata.enqueue_deployments`. */
export type DeploymentRequest = Intent & {
  manifest?: unknown;
  manifest_sha256?: string;
  /** With a code the revision is refused: its row is `failed` from the start. */
  error_code?: string;
  error_message?: string;
};

/** What `osp_metadata.enqueue_deployments` accepted. */
export const enqueuedSchema = z.object({
  service_schema: z.string(),
  revision: z.int(),
  deployment_status: z.enum(["pending", "failed"]),
  is_newest: z.boolean(),
});
export type Enqueued = z.infer<typeof enqueuedSchema>;

/** The database refuses what is to be enqueued; brought again it would be refused again. */
export class EnqueueRefusedError extends Error {
  override readonly name = "EnqueueRefusedError";
}

/** The intents as the function sees them. Each call throws when the database cannot be reached. */
export interface IntentQueue {
  take(): Promise<Intent[]>;
  /** Returns what was accepted. @throws {EnqueueRefusedError} */
  enqueue(deployments: DeploymentRequest[]): Promise<Enqueued[]>;
  /** Gives intents of one taking back. */
  release(intents: Intent[], why?: ReleaseReason): Promise<void>;
  countWaiting(): Promise<number>;
}

export interface ReleaseReason {
  /** What is in their way and what to do: the intents' `last_error`. */
  reason: string;
  /** Whether the intents may be at fault: five such tries, and they fail. Else it is as if they had not been taken. */
  countsAsTry: boolean;
}

/** Storage takes no object of this size; a smaller one it would. */
export class ObjectTooLargeError extends Error {
  override readonly name = "ObjectTooLargeError";
}

/** Where manifests are kept. Each call throws when Storage cannot be reached or refuses, and says what to do. */
export interface ManifestStore {
  /**
   * Writes an object that is never written again; one that exists is success, for its name holds its hash.
   *
   * @throws {ObjectTooLargeError}
   */
  putOnce(path: string, json: string): Promise<void>;
  /** Writes an object, over whatever is there. */
  put(path: string, json: string): Promise<void>;
  /** Removes objects; one that is gone already is success. */
  remove(paths: string[]): Promise<void>;
}

/** An object that no deployment needs: what `osp_metadata.take_pruned_objects` returns. */
export const prunedObjectSchema = z.object({
  path: z.string(),
  /** The right to forget it; the same for all of one taking. */
  lease_token: z.string(),
});
export type PrunedObject = z.infer<typeof prunedObjectSchema>;

/** What retention let go of. Each call throws when the database cannot be reached. */
export interface PrunedObjects {
  take(): Promise<PrunedObject[]>;
  /** Objects of one taking are gone from Storage; with a reason they are not, and wait on. How many were still this taking's. */
  forget(objects: PrunedObject[], reason?: string): Promise<number>;
}

/** Services' own code. Each call throws when the database or Storage cannot be reached or refuses, and says what to do. */
export interface CodeStore {
  /**
   * Keeps a service's code from being removed and tells whether Storage has it.
   *
   * @throws {CodeLeavingError} while it is being removed: in a moment it is gone
   */
  keep(serviceSchema: string, code: string): Promise<boolean>;
  /** Removes objects; one that is gone already is success. */
  remove(paths: string[]): Promise<void>;
}

/** Code that nobody used is just being removed. */
export class CodeLeavingError extends Error {
  override readonly name = "CodeLeavingError";
}
