// The packages of the worker's image: worker/image/package.json has what the worker imports, at the versions of
// package.json, and worker/image/package-lock.json what that takes, at the versions of package-lock.json.
// `node scripts/worker-image.ts` writes both anew; scripts/check-versions.ts checks them.
import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { execa } from "execa";
import { z } from "zod";
import { incompletePackages, type Lock, readLock } from "./package-lock.ts";

const root = fileURLToPath(new URL("../", import.meta.url));
const target = join(root, "worker", "image");

/** What worker/ and the core import. */
const packages = [
  "@temporalio/activity",
  "@temporalio/common",
  "@temporalio/envconfig",
  "@temporalio/worker",
  "@temporalio/workflow",
  "pino",
  "zod",
];

const { version, dependencies } = z.object({ version: z.string(), dependencies: z.record(z.string(), z.string()) })
  .parse(
    JSON.parse(readFileSync(join(root, "package.json"), "utf8")),
  );
const manifest = {
  name: "osp-worker",
  version,
  private: true,
  type: "module",
  dependencies: Object.fromEntries(packages.map((name) => [name, dependencies[name]])),
};

const directory = mkdtempSync(join(tmpdir(), "osp-worker-image-"));
try {
  writeFileSync(join(directory, "package.json"), `${JSON.stringify(manifest, undefined, 2)}\n`);
  copyFileSync(join(root, ".npmrc"), join(directory, ".npmrc"));
  // npm keeps the versions of a lock file that it finds, and takes out of it what is not needed.
  const lock = withoutIncomplete(readLock(join(root, "package-lock.json")));
  writeFileSync(join(directory, "package-lock.json"), JSON.stringify(lock));
  await execa("npm", ["install", "--package-lock-only", "--ignore-scripts"], { cwd: directory, stdio: "inherit" });
  const left = incompletePackages(readLock(join(directory, "package-lock.json")));
  if (left.length > 0) {
    const lacks = left.map(({ path, missing }) => `${path} lacks ${missing.join(", ")}`).join("; ");
    throw new Error(`npm ci would refuse the lock file: ${lacks}. The registry does not offer them: try another one`);
  }
  for (const name of ["package.json", "package-lock.json"]) copyFileSync(join(directory, name), join(target, name));
} finally {
  rmSync(directory, { recursive: true, force: true });
}

/** npm never completes an entry that it finds: it is asked for them anew. */
function withoutIncomplete(lock: Lock): Lock {
  const incomplete = new Set(incompletePackages(lock).map(({ path }) => path));
  const kept = Object.entries(lock.packages).filter(([path]) => path === "" || !incomplete.has(path));
  return { ...lock, packages: Object.fromEntries(kept) };
}
