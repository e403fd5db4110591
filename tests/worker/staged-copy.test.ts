import { execFileSync } from "node:child_process";
import { cpSync, existsSync, mkdtempSync, realpathSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, onTestFinished, test } from "vitest";
import { manifestOf } from "./support/manifests.ts";

const PROJECT = fileURLToPath(new URL("../..", import.meta.url));

test("a copy of the worker's files is complete and shares the built-in bundle with every other copy", () => {
  const copy = stageCopy();
  const cache = temporaryDirectory();
  const bundle = (directory: string) =>
    runNode(directory, ["worker/bundle-workflows.ts"], { OSP_CACHE_DIR: cache }).trim();

  const path = bundle(copy);

  expect(path).toMatch(new RegExp(`^${cache}/workflow-bundles/[0-9a-f]{64}\\.js$`));
  expect(existsSync(path)).toBe(true);
  expect(bundle(PROJECT)).toBe(path);
  const options = { activity_endpoint: "http://127.0.0.1:9" };
  writeFileSync(
    join(copy, "manifest.json"),
    JSON.stringify(manifestOf({ schema: "demo", workflows: { a: ["b"] }, options })),
  );
  const log = runNode(copy, ["worker/launch-worker.ts", "--check"], {
    OSP_CACHE_DIR: cache,
    MANIFEST_PATH: "manifest.json",
  });
  expect(log).toContain(`"event":"worker.exit","code":0`);
});

/** What a platform uploads; packages are installed there. */
function stageCopy(): string {
  const copy = temporaryDirectory();
  for (const path of ["worker", "host", "supabase/functions/_shared", "package.json"]) {
    cpSync(join(PROJECT, path), join(copy, path), { recursive: true });
  }
  symlinkSync(join(PROJECT, "node_modules"), join(copy, "node_modules"));
  return copy;
}

function temporaryDirectory(): string {
  const directory = realpathSync(mkdtempSync(join(tmpdir(), "osp-worker-copy-")));
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

function runNode(cwd: string, args: string[], environment: Record<string, string>): string {
  return execFileSync(process.execPath, args, {
    cwd,
    encoding: "utf8",
    env: { PATH: process.env["PATH"], ...environment },
  });
}
