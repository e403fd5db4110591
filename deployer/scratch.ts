import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { randomUUID } from "node:crypto";
import { formatError } from "../supabase/functions/_shared/problems.ts";
import { identifyProcess, isRunning, processIdentitySchema } from "../host/process-identity.ts";
import { PlatformError } from "./platforms/platform.ts";

/** Where a deployer keeps what it needs for a moment: uploads, a HOME for each call of a tool. */
export interface Scratch {
  /**
   * A fresh directory, for this user alone.
   *
   * @throws {PlatformError} unavailable: nobody's deployment is at fault when there is no room
   */
  directory(purpose: string): Promise<ScratchDirectory>;
  /** Removes all of it. */
  close(): Promise<void>;
}

export interface ScratchDirectory {
  path: string;
  remove(): Promise<void>;
}

const PREFIX = "osp-deployer-";
/** Names whoever made the directory, so that it is removed when that process is gone. */
const OWNER = "owner.json";

export function createScratch(): Scratch {
  const root = join(tmpdir(), `${PREFIX}${randomUUID()}`);
  return {
    async directory(purpose) {
      try {
        await ensureRoot(root);
        const path = await mkdtemp(join(root, `${purpose}-`));
        return { path, remove: () => rm(path, { recursive: true, force: true }) };
      } catch (error) {
        throw scratchError(error);
      }
    },
    close: () => rm(root, { recursive: true, force: true }),
  };
}

/** @param error of writing below the directory for temporary files */
export function scratchError(error: unknown): PlatformError {
  if (error instanceof PlatformError) return error;
  const message = `Cannot write below ${tmpdir()}: ${formatError(error)}. Is its disk full? TMPDIR names another place`;
  return new PlatformError("unavailable", "staging_failed", message, {}, { cause: error });
}

/** @throws {PlatformError} unavailable, when `writing` below the directory for temporary files fails */
export async function orNoRoom<Result>(writing: Promise<Result>): Promise<Result> {
  try {
    return await writing;
  } catch (error) {
    throw scratchError(error);
  }
}

/** Something may tidy up below /tmp while we run. */
async function ensureRoot(root: string): Promise<void> {
  if (await mkdir(root, { recursive: true, mode: 0o700 }) === undefined) return;
  await writeFile(join(root, OWNER), JSON.stringify(identifyProcess(process.pid)));
}

/** Removes what deployers of this machine left that were killed. */
export async function removeLeftScratch(): Promise<void> {
  const names = await readdir(tmpdir()).catch(() => []);
  await Promise.allSettled(
    names.filter((name) => name.startsWith(PREFIX)).map(async (name) => {
      const root = join(tmpdir(), name);
      const owner = processIdentitySchema.parse(JSON.parse(await readFile(join(root, OWNER), "utf8")));
      // Another user's stays: it is not ours to remove.
      if (!isRunning(owner)) await rm(root, { recursive: true, force: true });
    }),
  );
}
