import { builtinModules } from "node:module";
import {
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { basename, join, relative } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { bundleWorker } from "../../deployer/bundle-worker.ts";
import { keepWorkerProgram } from "../../deployer/worker-program.ts";

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

test("what a power cut left of a program is not started from", async () => {
  const cache = temporaryDirectory();
  const path = await keepWorkerProgram(cache);
  const contents = readFileSync(path);
  truncateSync(path);

  expect(await keepWorkerProgram(cache)).toBe(path);
  expect(readFileSync(path).equals(contents)).toBe(true);
});

test("programs that nobody started from for a month are removed when another one is kept", async () => {
  const cache = temporaryDirectory();
  const kept = ["recent.cjs", basename(await keepWorkerProgram(cache))];
  const directory = join(cache, "worker-programs");
  for (const name of ["old.cjs", "unfinished.tmp", "recent.cjs"]) writeFileSync(join(directory, name), "");
  const longAgo = new Date(Date.now() - 31 * 24 * 3600 * 1000);
  for (const name of ["old.cjs", "unfinished.tmp"]) utimesSync(join(directory, name), longAgo, longAgo);
  rmSync(join(directory, kept[1] ?? ""));

  await keepWorkerProgram(cache);

  expect(readdirSync(directory).toSorted()).toEqual(kept.toSorted());
});

test("a cache directory that is named relative to a working directory gives a program that others find as well", async () => {
  const cache = temporaryDirectory();
  expect(await keepWorkerProgram(relative(process.cwd(), cache))).toBe(await keepWorkerProgram(cache));
});

test("a copy's program says nothing of this machine, holds of Temporal's SDK what need not be shared, and looks for nothing beside itself", async () => {
  const program = Buffer.from(await bundleWorker("copy")).toString();
  expect(program).not.toContain(process.cwd());
  expect(program).not.toContain("import.meta.url");
  const required = new Set(program.match(/(?<=\brequire\(")(?!node:)[^"]+/g));
  const packages = [...required].map((path) => path.split("/").slice(0, path.startsWith("@") ? 2 : 1).join("/"));
  expect(new Set(packages.filter((name) => !builtinModules.includes(name)))).toEqual(
    new Set([
      ...["@temporalio/activity", "@temporalio/common", "@temporalio/nexus", "@temporalio/proto", "nexus-rpc"],
      "@temporalio/worker", // its activity.js, as below
    ]),
  );
  expect([...required].filter((path) => path.startsWith("@temporalio/worker/"))).toEqual([
    "@temporalio/worker/lib/activity.js",
  ]);
  // What looks for something beside itself would look beside the program.
  const [banner = "", ...rest] = program.split(/(?<=^};\n)/m);
  expect(banner).toContain("__osp_beside = ");
  expect(rest.join("").match(/.*(\b__dirname\b|\b__filename\b|\brequire\.resolve\().*/g)).toBeNull();
  expect(rest.join("").match(/\.Worker\(.*(?=,)/g)).toContainEqual(expect.stringContaining(".Worker(__osp_program)"));
});

test("what cannot be kept is told with its place", async () => {
  await expect(keepWorkerProgram("/dev/null/cache")).rejects.toThrow("/dev/null/cache");
});

function temporaryDirectory(): string {
  const directory = realpathSync(mkdtempSync(join(tmpdir(), "osp-worker-program-")));
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}
