import { mkdirSync, mkdtempSync, renameSync, rmSync, statSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { unusedFiles } from "../host/unused-files.ts";

/** Bundled workflows, kept between starts under a key made of all that went into them. */
export interface BundleCache {
  /** The file under this name, or undefined. */
  find(name: string): string | undefined;
  /** Hands out a directory to build in; what is written there is gone when `build` is done. */
  buildIn<Result>(build: (directory: string) => Promise<Result>): Promise<Result>;
  /** Puts a finished file under a name, at once: nobody ever reads half of it. */
  keep(file: string, name: string): string;
  write(text: string, name: string): string;
}

/**
 * `<cacheDirectory>/workflow-bundles`, else a directory of this process alone: a shared one below /tmp could hold
 * anybody's code.
 */
export function openBundleCache(cacheDirectory: string): BundleCache {
  const directory = writableDirectory(join(cacheDirectory, "workflow-bundles")) ?? privateDirectory();
  const keep = (file: string, name: string) => {
    const target = join(directory, name);
    renameSync(file, target);
    return target;
  };
  return {
    find(name) {
      const file = join(directory, name);
      try {
        if (statSync(file).size === 0) return undefined;
        utimesSync(file, new Date(), new Date()); // in use: see unused-files.ts
      } catch (error) {
        // A file that is there but is another user's: its time stays as it is.
        return Object(error).code === "EPERM" ? file : undefined;
      }
      return file;
    },
    async buildIn(build) {
      for (const path of unusedFiles(directory)) rmSync(path, { recursive: true, force: true });
      const workDirectory = mkdtempSync(join(directory, "build-"));
      try {
        return await build(workDirectory);
      } finally {
        rmSync(workDirectory, { recursive: true, force: true });
      }
    },
    keep,
    write(text, name) {
      const draft = join(mkdtempSync(join(directory, "build-")), name);
      writeFileSync(draft, text);
      const file = keep(draft, name);
      rmSync(join(draft, ".."), { recursive: true, force: true });
      return file;
    },
  };
}

function writableDirectory(directory: string): string | undefined {
  try {
    mkdirSync(directory, { recursive: true });
    rmSync(mkdtempSync(join(directory, "build-")), { recursive: true });
    return directory;
  } catch {
    return undefined; // read-only or full: bundles are made anew at each start
  }
}

function privateDirectory(): string {
  const directory = mkdtempSync(join(tmpdir(), "osp-bundles-"));
  process.on("exit", () => rmSync(directory, { recursive: true, force: true }));
  return directory;
}
