import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { canonicalJson } from "../supabase/functions/_shared/canonical-json.ts";
import type { Manifest } from "../supabase/functions/_shared/manifest.ts";

export interface StagedUpload {
  /** The future code root. */
  directory: string;
  remove(): Promise<void>;
}

/** A fresh directory with what a worker of this revision runs from. The same manifest gives the same bytes. */
export async function stageUpload(manifestPath: string, manifest: Manifest): Promise<StagedUpload> {
  const directory = await mkdtemp(join(tmpdir(), "osp-upload-"));
  const file = join(directory, manifestPath);
  await mkdir(dirname(file), { recursive: true });
  await writeFile(file, canonicalJson(manifest));
  return { directory, remove: () => rm(directory, { recursive: true, force: true }) };
}
