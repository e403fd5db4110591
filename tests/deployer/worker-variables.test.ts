import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { variablesOfWorker } from "../../deployer/platforms/worker-variables.ts";
import { manifestOf } from "../worker/support/manifests.ts";

const SECRETS = { OSP_ACTIVITY_SECRET: "of all activities", OSP_ACTIVITY_SECRET_PREVIOUS: "of them all before" };
const OTHERS = { TEMPORAL_ADDRESS: "127.0.0.1:9", OSP_ACTIVITY_NETWORKS: "fd12::/16", API_KEY: "the operator's own" };
const POSTED = "./service/activities.ts";
const PUSHED = "./code/activities.mjs";
const code = "a".repeat(64);
const descriptionOf = (activities: string[] | undefined) => ({ format: 1, sdk_version: "1.24.0", activities });

let codeRoot: string;
beforeEach(() => {
  codeRoot = mkdtempSync(join(tmpdir(), "osp-test-variables-"));
});
afterEach(() => rmSync(codeRoot, { recursive: true, force: true }));

function write(name: string, content: unknown): void {
  mkdirSync(dirname(join(codeRoot, name)), { recursive: true });
  writeFileSync(join(codeRoot, name), JSON.stringify(content));
}
function writeManifest(activities_path: string, options: object = {}): void {
  const manifest = manifestOf({ schema: "s", workflows: { bill: ["one"] } });
  write("manifests/s.json", { ...manifest, activities_path, options });
}
const given = () => variablesOfWorker({ ...OTHERS, ...SECRETS }, codeRoot, "s");

test("the built-in activities sign", () => {
  writeManifest(POSTED);
  expect(given()).toEqual({ ...OTHERS, ...SECRETS });
});

test("so they do where pushed code brings workflows alone", () => {
  writeManifest(PUSHED, { code });
  write("code/code.json", descriptionOf(undefined));
  expect(given()).toEqual({ ...OTHERS, ...SECRETS });
});

test.each([
  ["pushed activities", PUSHED, { code }, descriptionOf(["one"])],
  ["code that does not say what it brings", PUSHED, { code }, {}],
  ["a path of pushed code without code", PUSHED, {}, descriptionOf(undefined)],
  ["activities in the code root", "./mine.mjs", {}, undefined],
])("%s are not given the secret", (_, path, options, description) => {
  writeManifest(path, options);
  if (description !== undefined) write("code/code.json", description);
  expect(given()).toEqual(OTHERS);
});
