import { createClient } from "@supabase/supabase-js";
import { createHash } from "node:crypto";
import { createRequire } from "node:module";
import { packArchive } from "../../host/code-archive.ts";
import { BUNDLE_VERSION } from "../../supabase/functions/_shared/service-code.ts";
import { KEYS } from "../local/stand.ts";

export interface TestArchive {
  /** Its hash. */
  code: string;
  archive: Buffer;
}

/** The bucket as its migration makes it, which a test's database has not: there Storage comes later. */
export const CODE_BUCKET_SQL = `insert into storage.buckets (id, name, public, file_size_limit, allowed_mime_types)
  values ('code', 'code', false, 20971520, '{application/gzip}')
  on conflict (id) do update set file_size_limit = excluded.file_size_limit, allowed_mime_types = excluded.allowed_mime_types`;

/** Pushed code of activities alone, without the seconds that a push takes. */
export function archiveOf(activities: string): TestArchive {
  const sdk_version: string = createRequire(import.meta.url)("@temporalio/worker/package.json").version;
  const names = [...activities.matchAll(/^export (?:async )?function (\w+)/gm)].map(([, name]) => name);
  const description = { format: 1, sdk_version, bundle_version: BUNDLE_VERSION, activities: names };
  return hashed(packArchive(
    new Map([
      ["code.json", Buffer.from(JSON.stringify(description))],
      ["activities.mjs", Buffer.from(activities)],
    ]),
  ));
}

export function hashed(archive: Buffer): TestArchive {
  return { archive, code: createHash("sha256").update(archive).digest("hex") };
}

/** Stores an archive as a push does, or under another name. */
export async function store(apiUrl: string, schema: string, { archive, code }: TestArchive): Promise<void> {
  const { error } = await storageOf(apiUrl).upload(`${schema}/${code}.tar.gz`, archive, {
    contentType: "application/gzip",
    upsert: true,
  });
  if (error !== null) throw error;
}

export async function download(apiUrl: string, schema: string, code: string): Promise<Buffer> {
  const { data, error } = await storageOf(apiUrl).download(`${schema}/${code}.tar.gz`);
  if (error !== null) throw error;
  return Buffer.from(await data.arrayBuffer());
}

export async function unstore(apiUrl: string, schema: string, code: string): Promise<void> {
  const { error } = await storageOf(apiUrl).remove([`${schema}/${code}.tar.gz`]);
  if (error !== null) throw error;
}

function storageOf(apiUrl: string) {
  return createClient(apiUrl, KEYS.SECRET_KEY, { auth: { persistSession: false } }).storage.from("code");
}
