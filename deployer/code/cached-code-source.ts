import { createHash, randomUUID } from "node:crypto";
import { mkdir, readdir, readFile, rename, rm, stat, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { PlatformError } from "../platforms/platform.ts";
import type { CodeSource } from "./code-source.ts";

/** Archives that no deployment used for so long are removed: Storage has them. */
const KEEP_MS = 30 * 24 * 3600 * 1000;

/**
 * Code by its hash, kept on this machine between deployments. What the hash does not fit is never handed out, wherever it comes
 * from.
 */
export function createCachedCodeSource(source: CodeSource, cacheDirectory: string): CodeSource {
  const directory = join(cacheDirectory, "service-code");
  return {
    async fetch(serviceSchema, code, signal) {
      const file = join(directory, `${serviceSchema}-${code}.tar.gz`);
      const kept = await readFile(file).catch(() => undefined);
      if (kept !== undefined && sha256(kept) === code) {
        await utimes(file, new Date(), new Date()).catch(() => {}); // in use: see KEEP_MS
        return kept;
      }
      const archive = await source.fetch(serviceSchema, code, signal);
      const found = sha256(archive);
      if (found !== code) {
        throw new PlatformError(
          "permanent",
          "code_mismatch",
          `The code of service "${serviceSchema}" in Storage has SHA-256 ${found}, its name says ${code}: it was changed by hand. ` +
            `Remove the object, push it again by \`osp code push\`, then: select osp.redeploy('${serviceSchema}')`,
        );
      }
      // A full or read-only disk: it is fetched again next time.
      await keep(directory, file, archive).catch(() => {});
      return archive;
    },
  };
}

function sha256(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

async function keep(directory: string, file: string, archive: Buffer): Promise<void> {
  await mkdir(directory, { recursive: true, mode: 0o700 });
  for (const name of await readdir(directory)) {
    const old = join(directory, name);
    if (Date.now() - (await stat(old)).mtimeMs > KEEP_MS) await rm(old, { force: true });
  }
  // Written beside and renamed: nobody ever reads half of it.
  const draft = join(directory, `${randomUUID()}.new`);
  try {
    await writeFile(draft, archive, { mode: 0o600 });
    await rename(draft, file);
  } finally {
    await rm(draft, { force: true });
  }
}
