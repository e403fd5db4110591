import { mkdir, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { canonicalJson } from "../supabase/functions/_shared/canonical-json.ts";
import type { Manifest } from "../supabase/functions/_shared/manifest.ts";
import { type Scratch, type ScratchDirectory, scratchError } from "./scratch.ts";

/**
 * A fresh directory with what a worker of this revision runs from: the future code root. The same manifest gives the same
 * bytes.
 *
 * @throws {PlatformError} unavailable, when there is no room
 */
export async function stageUpload(
  manifestPath: string,
  manifest: Manifest,
  scratch: Scratch,
): Promise<ScratchDirectory> {
  const directory = await scratch.directory("upload");
  try {
    const file = join(directory.path, manifestPath);
    await mkdir(dirname(file), { recursive: true });
    await writeFile(file, canonicalJson(manifest));
    return directory;
  } catch (error) {
    await directory.remove().catch(() => {});
    throw scratchError(error);
  }
}
