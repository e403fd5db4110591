import { chmodSync, existsSync, mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeEach, expect, test } from "vitest";
import { findRailwayCli } from "../../local/railway/railway-cli.ts";
import { scratchDirectory } from "../support/railway/scratch.ts";

let cache: string;
let notes: string[];
const note = (text: string) => void notes.push(text);

beforeEach(() => {
  cache = scratchDirectory();
  notes = [];
});

test("RAILWAY_CLI_PATH is taken before anything else", async () => {
  const given = join(cache, "mine");
  writeFileSync(given, "");
  const environment = { RAILWAY_CLI_PATH: given, OSP_CACHE_DIR: cache };
  expect(await findRailwayCli(environment, note, { mayBuild: true })).toBe(given);
});

test("a RAILWAY_CLI_PATH that names no file is refused", async () => {
  const finding = findRailwayCli({ RAILWAY_CLI_PATH: "/nowhere/railway" }, note, { mayBuild: true });
  await expect(finding).rejects.toThrow("Cannot use RAILWAY_CLI_PATH: there is no file /nowhere/railway");
});

test("what an earlier run built is found; nothing is built unasked", async () => {
  expect(await findRailwayCli({ OSP_CACHE_DIR: cache }, note, { mayBuild: false })).toBeUndefined();
  const built = join(cache, "railway-5.71.0", "bin", "railway");
  mkdirSync(join(built, ".."), { recursive: true });
  writeFileSync(built, "");
  expect(await findRailwayCli({ OSP_CACHE_DIR: cache }, note, { mayBuild: false })).toBe(built);
  expect(notes).toEqual([]);
});

test("it is built by cargo, in one piece, and nothing of the build is left", async () => {
  const PATH = `${cargo(`mkdir -p "$8/bin" "$CARGO_TARGET_DIR" && echo "$@" > "$8/bin/railway"`)}:${
    process.env["PATH"]
  }`;
  const found = await findRailwayCli({ OSP_CACHE_DIR: cache, PATH }, note, { mayBuild: true });
  expect(found).toBe(join(cache, "railway-5.71.0", "bin", "railway"));
  expect(existsSync(found ?? "")).toBe(true);
  expect(readdirSync(cache)).toEqual(["railway-5.71.0"]);
  expect(notes).toEqual([expect.stringContaining("building the CLI 5.71.0")]);
});

test("two that build at the same time both find it", async () => {
  const PATH = `${cargo(`mkdir -p "$8/bin" && echo > "$8/bin/railway"`)}:${process.env["PATH"]}`;
  const find = () => findRailwayCli({ OSP_CACHE_DIR: cache, PATH }, note, { mayBuild: true });
  const [one, other] = await Promise.all([find(), find()]);
  expect(one).toBe(other);
  expect(readdirSync(cache)).toEqual(["railway-5.71.0"]);
});

test("a build that fails says why, and leaves nothing", async () => {
  const PATH = `${cargo("echo no such crate >&2; exit 101")}:${process.env["PATH"]}`;
  expect(await findRailwayCli({ OSP_CACHE_DIR: cache, PATH }, note, { mayBuild: true })).toBeUndefined();
  expect(notes.at(-1)).toContain("no such crate");
  expect(readdirSync(cache)).toEqual([]);
});

/** A directory with a `cargo` that does this; $8 is the value of --root. */
function cargo(script: string): string {
  const directory = scratchDirectory();
  writeFileSync(join(directory, "cargo"), `#!/bin/sh\n${script}\n`);
  chmodSync(join(directory, "cargo"), 0o755);
  return directory;
}
