import { ObjectTooLargeError } from "./intents.ts";

export interface StorageRefusal {
  /** An object of this name exists. */
  isDuplicate: boolean;
  /** What failed and what to do. */
  error: Error;
}

/** What supabase-js tells of a request to Storage that failed; a request without an answer has no status. */
interface StorageFailure {
  message: string;
  status?: number | undefined;
  /** The true status. Storage answers most refusals with HTTP 400 and puts it, as a string, into the body. */
  statusCode?: string | undefined;
  code?: string | undefined;
}

/** What Storage was asked for. */
type StorageRequest = { verb: "upload"; bytes: number } | { verb: "removal" };

/** Why Storage refused a request. Only a smaller manifest helps where it is too large. */
export function explainRefusal(failure: StorageFailure, bucket: string, request: StorageRequest): StorageRefusal {
  const told = new Set([failure.statusCode, failure.code, String(failure.status)]);
  const is = (...codes: string[]) => codes.some((code) => told.has(code));
  const isDuplicate = is("409", "KeyAlreadyExists");
  const refused = (message: string) => ({ isDuplicate, error: new Error(message, { cause: failure }) });

  if (request.verb === "upload" && is("413", "EntityTooLarge")) {
    const message = `The bucket "${bucket}" of Storage takes no object of ${request.bytes} bytes`;
    return { isDuplicate, error: new ObjectTooLargeError(message, { cause: failure }) };
  }
  if (is("NoSuchBucket") || (is("404") && /bucket/i.test(failure.message))) {
    return refused(
      `Storage has no bucket "${bucket}": ` +
        `insert into storage.buckets (id, name, public) values ('${bucket}', '${bucket}', false)`,
    );
  }
  if (is("415", "InvalidMimeType", "invalid_mime_type")) {
    return refused(
      `The bucket "${bucket}" of Storage does not take application/json: ` +
        `update storage.buckets set allowed_mime_types = '{application/json}' where id = '${bucket}'`,
    );
  }
  if (is("401", "403", "AccessDenied")) {
    return refused(
      `Storage refuses the Edge Function's key: set SUPABASE_SECRET_KEYS where the function runs to a secret key of this project`,
    );
  }
  if (failure.status === undefined) return refused("Storage does not answer");
  const what = request.verb === "upload" ? "an upload into" : "a removal from";
  return refused(`Storage answers ${failure.statusCode ?? failure.status} to ${what} the bucket "${bucket}"`);
}
