import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { bundleWorkerCopy, keepWorkerProgram } from "../../deployer/worker-program.ts";

test("a program is kept by what is in it, once for all who start workers, and made again where it is gone", async () => {
  const cache = temporaryDirectory();
  const paths = await Promise.all([1, 2, 3].map(() => keepWorkerProgram(cache)));
  expect(new Set(paths).size).toBe(1);
  const [path = ""] = paths;
  const contents = readFileSync(path);
  expect(readdirSync(join(cache, "worker-programs"))).toEqual([expect.stringMatching(/^[0-9a-f]{64}\.cjs$/)]);

  rmSync(join(cache, "worker-programs"), { recursive: true });

  expect(await keepWorkerProgram(cache)).toBe(path);
  expect(readFileSync(path).equals(contents)).toBe(true);
});

test("a copy's program says nothing of this machine, and nothing of Temporal's SDK is in it", async () => {
  const program = Buffer.from(await bundleWorkerCopy()).toString();
  expect(program).not.toContain(process.cwd());
  expect(program).toContain(`require("@temporalio/worker")`);
  expect(program).not.toContain("node_modules/@temporalio");
  expect(program).not.toContain("import.meta.url");
});

test("what cannot be kept is told with its place", async () => {
  await expect(keepWorkerProgram("/dev/null/cache")).rejects.toThrow("/dev/null/cache");
});

function temporaryDirectory(): string {
  const directory = mkdtempSync(join(tmpdir(), "osp-worker-program-"));
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}
