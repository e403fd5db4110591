import { createHash } from "node:crypto";
import { setTimeout as pause } from "node:timers/promises";
import { CODE_BUCKET, codeObject } from "../../supabase/functions/_shared/service-code.ts";
import { type OspStorage, recordCode } from "../data-api.ts";
import { TransportError } from "../errors.ts";
import type { Patience } from "../patience.ts";

/** A lease on what is being removed ends after 30 s, and then another takes it up at once. */
const TRIES = 15;
const RETRY_MS = 3000;

/**
 * Stores an archive under its hash and writes that down. One that is there already is success: it is compared, for a name can lie.
 *
 * @returns whether it is new
 * @throws {TransportError} when the API cannot be reached, or refuses
 */
export async function storeCode(
  supabase: OspStorage,
  { service_schema, code, archive }: { service_schema: string; code: string; archive: Buffer },
  patience: Patience,
): Promise<boolean> {
  const path = codeObject(service_schema, code);
  for (let tries = 1;; tries++) {
    const isNew = await upload(supabase, path, archive, patience);
    const isKept = await recordCode(supabase, { service_schema, code, bytes: archive.length }, patience);
    // What was there may have gone between the two.
    if (isKept && (isNew || await isThere(supabase, path, code, patience))) return isNew;
    if (tries === TRIES) {
      throw new TransportError(
        `Cannot store ${path}: it is just being removed, and was so for a while. Push again; ` +
          "what is in the way of its removal: select * from osp_metadata.service_code where last_error is not null",
      );
    }
    await pause(RETRY_MS, undefined, { signal: patience.signal }).catch(() => {});
    patience.check(`Cannot store ${path}, which is just being removed`);
  }
}

async function upload(supabase: OspStorage, path: string, archive: Buffer, patience: Patience): Promise<boolean> {
  const { error } = await supabase.storage.from(CODE_BUCKET).upload(path, archive, {
    contentType: "application/gzip",
    cacheControl: "31536000",
    upsert: false,
  });
  if (error === null) return true;
  const told = facts(error);
  if (told.has("409") || told.has("KeyAlreadyExists")) return false;
  throw explain(error, `store ${path}`, patience);
}

async function isThere(supabase: OspStorage, path: string, code: string, patience: Patience): Promise<boolean> {
  const { data, error } = await supabase.storage.from(CODE_BUCKET).download(path);
  if (error !== null) {
    if (["404", "NoSuchKey"].some((fact) => facts(error).has(fact)) && !/bucket/i.test(error.message)) return false;
    throw explain(error, `read ${path}`, patience);
  }
  const found = createHash("sha256").update(Buffer.from(await data.arrayBuffer())).digest("hex");
  if (found === code) return true;
  throw new TransportError(
    `Cannot store ${path}: the bucket has an object of that name whose SHA-256 is ${found}. Remove it and push again`,
  );
}

interface StorageFailure {
  message: string;
  status?: number | undefined;
  /** The true status: Storage answers most refusals with HTTP 400 and puts it into the body. */
  statusCode?: string | undefined;
  code?: string | undefined;
}

function facts({ status, statusCode, code }: StorageFailure): Set<string | undefined> {
  return new Set([statusCode, code, String(status)]);
}

function explain(error: StorageFailure, action: string, patience: Patience): TransportError {
  patience.check(`Cannot ${action}`, error);
  const told = facts(error);
  const reason = told.has("NoSuchBucket") || /bucket not found/i.test(error.message)
    ? `Storage has no bucket "${CODE_BUCKET}": apply the migrations, or ` +
      `insert into storage.buckets (id, name, public) values ('${CODE_BUCKET}', '${CODE_BUCKET}', false)`
    : told.has("401") || told.has("403") || told.has("AccessDenied")
    ? `Storage refuses the key: it takes a secret key of this project`
    : told.has("413") || told.has("EntityTooLarge")
    ? `the bucket "${CODE_BUCKET}" takes no object of this size: raise its file_size_limit in storage.buckets`
    : error.message;
  return new TransportError(`Cannot ${action}: ${reason}`, { cause: error });
}
