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
import { dirname, join, relative } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { bundleWorker } from "../../deployer/bundle-worker.ts";
import { keepWorkerProgram } from "../../deployer/worker-program.ts";

test("a program is kept by what is in it, once for all who start workers, and made again where it is gone", async () => {
  const cache = temporaryDirectory();
  const paths = await Promise.all([1, 2, 3].map(() => keepWorkerProgram(cache)));
  expect(new Set(paths).size).toBe(1);
  const [path = ""] = paths;
  const contents = readFileSync(path);
  expect(readdirSync(join(cache, "worker-programs"))).toEqual(
    [1, 2].map(() => expect.stringMatching(/^[0-9a-f]{64}\.cjs$/)),
  );

  rmSync(join(cache, "worker-programs"), { recursive: true });

  expect(await keepWorkerProgram(cache)).toBe(path);
  expect(readFileSync(path).equals(contents)).toBe(true);
});

test("what a power cut left of a program is not started from", async () => {
  const cache = temporaryDirectory();
  const path = await keepWorkerProgram(cache);
  const directory = dirname(path);
  for (const name of readdirSync(directory)) {
    const contents = readFileSync(join(directory, name));
    truncateSync(join(directory, name));

    expect(await keepWorkerProgram(cache)).toBe(path);
    expect(readFileSync(join(directory, name)).equals(contents)).toBe(true);
  }
});

test("programs that nobody started from for a month are removed when another one is kept", async () => {
  const cache = temporaryDirectory();
  const path = await keepWorkerProgram(cache);
  const directory = dirname(path);
  const kept = ["recent.cjs", ...readdirSync(directory)];
  for (const name of ["old.cjs", "unfinished.tmp", "recent.cjs"]) writeFileSync(join(directory, name), "");
  const longAgo = new Date(Date.now() - 31 * 24 * 3600 * 1000);
  for (const name of ["old.cjs", "unfinished.tmp"]) utimesSync(join(directory, name), longAgo, longAgo);
  rmSync(path);

  await keepWorkerProgram(cache);

  expect(readdirSync(directory).toSorted()).toEqual(kept.toSorted());
});

test("a cache directory that is named relative to a working directory gives a program that others find as well", async () => {
  const cache = temporaryDirectory();
  expect(await keepWorkerProgram(relative(process.cwd(), cache))).toBe(await keepWorkerProgram(cache));
});

test.each(
  [
    {
      file: "program",
      // Of the SDK's worker its activity.js alone: by that name its frames are cut from stack traces.
      required: [
        ...["activity", "common", "nexus/lib/context", "proto", "worker/lib/activity.js"].map((name) =>
          `@temporalio/${name}`
        ),
        "nexus-rpc",
      ],
      threads: ["globalThis.ospProgram.thread"],
    },
    { file: "thread", required: ["@temporalio/common", "@temporalio/proto"], threads: [] },
  ] as const,
)(
  "a copy's $file says nothing of this machine, requires what must be shared, and looks for nothing beside itself",
  async ({ file, required, threads }) => {
    const { [file]: { contents } } = await bundleWorker("copy");
    const code = Buffer.from(contents).toString();
    expect(code).not.toContain(process.cwd());
    expect(code).not.toContain("import.meta.url");
    const others = (code.match(/(?<=\brequire\(")(?!node:)[^"]+/g) ?? []).filter((path) =>
      !builtinModules.includes(path)
    );
    const isDeep = (path: string) => /^@temporalio\/(?:common|proto)\//.test(path);
    expect(new Set(others.filter((path) => !isDeep(path)))).toEqual(new Set(required));
    // What looks for something beside itself would look beside the program.
    const [banner = "", ...rest] = code.split(/(?<=^};\n)/m);
    expect(banner).toContain("__osp_beside = ");
    expect(rest.join("").match(/.*(\b__dirname\b|\b__filename\b|\brequire\.resolve\().*/g)).toBeNull();
    expect(code.match(/(?<=new WorkerThreadClient\(new \S+\.Worker\()[^)]*/g) ?? []).toEqual(threads);
  },
);

test("what cannot be kept is told with its place", async () => {
  await expect(keepWorkerProgram("/dev/null/cache")).rejects.toThrow("/dev/null/cache");
});

function temporaryDirectory(): string {
  const directory = realpathSync(mkdtempSync(join(tmpdir(), "osp-worker-program-")));
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}
