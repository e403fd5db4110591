import { mkdir, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { canonicalJson } from "../supabase/functions/_shared/canonical-json.ts";
import { identifyProcess } from "../host/process-identity.ts";
import type { Manifest } from "../supabase/functions/_shared/manifest.ts";

export interface StagedUpload {
  /** The future code root. */
  directory: string;
  remove(): Promise<void>;
}

const PREFIX = "osp-upload-";

/** A fresh directory with what a worker of this revision runs from. The same manifest gives the same bytes. */
export async function stageUpload(manifestPath: string, manifest: Manifest): Promise<StagedUpload> {
  const directory = await mkdtemp(join(tmpdir(), `${PREFIX}${process.pid}-`));
  const file = join(directory, manifestPath);
  await mkdir(dirname(file), { recursive: true });
  await writeFile(file, canonicalJson(manifest));
  return { directory, remove: () => rm(directory, { recursive: true, force: true }) };
}

/** Removes what deployers of this machine staged that were killed: their uploads end with them. */
export async function removeLeftUploads(): Promise<void> {
  const left = (await readdir(tmpdir())).filter((name) => {
    const pid = new RegExp(`^${PREFIX}(\\d+)-`).exec(name)?.[1];
    return pid !== undefined && identifyProcess(Number(pid)) === undefined;
  });
  // Another user's stays: it is not ours to remove.
  await Promise.allSettled(left.map((name) => rm(join(tmpdir(), name), { recursive: true, force: true })));
}
