import { mkdirSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { cacheDirectory } from "../../host/cache-directory.ts";
import { visible } from "../../supabase/functions/_shared/visible-text.ts";
import { WorkerExitError } from "../../worker/exit.ts";
import { readManifest } from "../../worker/read-manifest.ts";
import { manifestCases, unreadableManifests } from "../support/hostile-manifests.ts";
import { createCodeRoot, startWorker } from "./support/worker-process.ts";

const codeRoot = createCodeRoot();
afterAll(() => codeRoot.remove());

test.each([...manifestCases, ...unreadableManifests])("$title", async ({ text, refused }) => {
  codeRoot.write("manifest.json", text);
  const read = await readManifest(codeRoot.path, "manifest.json").catch((error: unknown) => error);
  if (refused === undefined) {
    expect(read).toMatchObject({ service_name: JSON.parse(text).service_name, workflows: JSON.parse(text).workflows });
    return;
  }
  expect(read).toBeInstanceOf(WorkerExitError);
  const { code, problems } = Object(read);
  expect(code).toBe(78);
  expect(problems).toContainEqual(expect.stringMatching(refused));
  // As a line of the log: nothing in it acts on a terminal, and it is no longer than what a platform keeps.
  expect(problems.join("\n").length).toBeLessThan(15_000);
  for (const problem of problems) expect(problem).toBe(visible(problem));
  expect(Object.hasOwn(Object.prototype, "polluted")).toBe(false);
});

test.each([
  ["../manifest.json", /there is no file|leads out of the code root/],
  ["/etc/hostname", /leads out of the code root/],
  ["--help", /there is no file "--help"/],
  ["link.json", /leads out of the code root/],
  ["directory.json", /is no regular file/],
  ["a\u001b[2J.json", /there is no file "a\\u001b\[2J\.json"/],
])("MANIFEST_PATH=%j is refused", async (path, problem) => {
  mkdirSync(join(codeRoot.path, "directory.json"), { recursive: true });
  try {
    symlinkSync("/etc/hostname", join(codeRoot.path, "link.json"));
  } catch {
    // it stands there since the case before
  }
  await expect(readManifest(codeRoot.path, path)).rejects.toMatchObject({
    code: 78,
    problems: [expect.stringMatching(problem)],
  });
});

test("the program itself: --check ends with 78, and its last line lists what is wrong and nothing that acts", async () => {
  const key = "\\u001b[2J\\u202e__proto__";
  codeRoot.write(
    "manifest.json",
    `{"${key}":1,"service_schema":"--help","activities_path":"../../etc/passwd","workflows":[],"__proto__":{"polluted":true}}`,
  );
  const environment = { MANIFEST_PATH: "manifest.json", OSP_CACHE_DIR: cacheDirectory(process.env) };
  const worker = startWorker(codeRoot.path, environment, ["--check"]);
  const { code, last } = await worker.exit();
  expect(code).toBe(78);
  expect(worker.otherOutput).toEqual([]);
  expect(last).toMatchObject({ event: "worker.exit", code: 78 });
  const line = JSON.stringify(last);
  expect(line).toContain(String.raw`\\u001b[2J\\u202e__proto__`);
  expect(line).toBe(visible(line));
  for (const told of ["service_schema", "activities_path", "workflows"]) expect(line).toContain(told);
});
