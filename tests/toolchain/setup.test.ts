import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { execa } from "execa";
import { afterEach, beforeEach, expect, test } from "vitest";

let clone: string;

beforeEach(() => {
  clone = mkdtempSync(join(tmpdir(), "osp-setup-"));
  for (const directory of ["scripts", "bin", ".osp"]) mkdirSync(join(clone, directory));
  copyFileSync("scripts/setup.mjs", join(clone, "scripts/setup.mjs"));
  writeLockfile("1.0.0");
  fakeNpm();
});
afterEach(() => rmSync(clone, { recursive: true, force: true }));

test("a fresh clone is installed, once, with nothing on stdout", async () => {
  const first = await setup();
  expect(first).toMatchObject({
    exitCode: 0,
    stdout: "",
    stderr: expect.stringContaining("Installed dependencies in"),
  });
  const second = await setup();
  expect(second).toMatchObject({ exitCode: 0, stdout: "", stderr: "" });
  expect(npmRuns()).toBe(1);
});

test("set-ups at the same time install once", async () => {
  const all = await Promise.all([setup(), setup(), setup()]);
  expect(all.map(({ exitCode }) => exitCode)).toEqual([0, 0, 0]);
  expect(npmRuns()).toBe(1);
  expect(existsSync(join(clone, ".osp/setup.lock"))).toBe(false);
});

test("another lockfile is installed again", async () => {
  await setup();
  writeLockfile("1.0.1");
  await setup();
  expect(npmRuns()).toBe(2);
});

test("what somebody installed by hand is taken as it is", async () => {
  await execa("npm", [], { cwd: clone, env: environment() });
  const { stderr } = await setup();
  expect(stderr).toBe("");
  expect(npmRuns()).toBe(1);
});

test("the guard of a set-up that was killed is taken over", async () => {
  writeFileSync(join(clone, ".osp/setup.lock"), String(2 ** 22 + 1)); // past Linux's largest pid: nobody's
  expect(await setup()).toMatchObject({ exitCode: 0 });
});

test("npm's failure is shown with its last lines and what to do", async () => {
  fakeNpm("echo 'npm error code ENOTFOUND' >&2; exit 7");
  const { exitCode, stdout, stderr } = await setup();
  expect(exitCode).toBe(1);
  expect(stdout).toBe("");
  expect(stderr).toContain("npm error code ENOTFOUND\nCannot install dependencies: npm install ended with exit code 7");
  expect(existsSync(join(clone, ".osp/setup.lock"))).toBe(false);
});

test("an installation that is not what the lockfile says is refused", async () => {
  fakeNpm("mkdir -p node_modules; exit 0");
  expect(await setup()).toMatchObject({
    exitCode: 1,
    stderr: expect.stringContaining("not what package-lock.json says"),
  });
});

function setup() {
  return execa("node", ["scripts/setup.mjs"], { cwd: clone, env: environment(), reject: false });
}

function environment() {
  return { PATH: `${join(clone, "bin")}:${process.env["PATH"]}`, npm_execpath: "" };
}

function writeLockfile(version: string): void {
  const packages = {
    "": {},
    "node_modules/a": { version },
    "node_modules/a-for-another-platform": { version, optional: true },
  };
  writeFileSync(join(clone, "package-lock.json"), JSON.stringify({ packages }));
}

/** An npm that takes a moment and installs what the lockfile says, or does as told. */
function fakeNpm(instead?: string): void {
  const install = `sleep 0.3; mkdir -p node_modules/.bin; touch node_modules/.bin/node
    sed 's/,"node_modules.a-for-another-platform":{[^}]*}//' package-lock.json > node_modules/.package-lock.json`;
  const npm = join(clone, "bin/npm");
  writeFileSync(npm, `#!/bin/sh\necho run >> npm-runs\n${instead ?? install}\n`);
  chmodSync(npm, 0o755);
}

function npmRuns(): number {
  return readFileSync(join(clone, "npm-runs"), "utf8").trim().split("\n").length;
}
