import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, realpathSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, onTestFinished, test, vi } from "vitest";
import { identifyProcess } from "../../host/process-identity.ts";
import { runIsolated } from "../../host/isolated-node.ts";

const directory = realpathSync(mkdtempSync(join(tmpdir(), "osp-test-isolated-")));
afterAll(() => rmSync(directory, { recursive: true, force: true }));
function script(name: string, text: string): string {
  const file = join(directory, name);
  writeFileSync(file, text);
  return file;
}
const answering = (expression: string) =>
  `import { readFileSync, writeFileSync, writeSync } from "node:fs";
   import { spawnSync } from "node:child_process";
   const tried = (work) => { try { return work(); } catch (error) { return error.code; } };
   writeSync(3, JSON.stringify(${expression}));`;
/** Also one that nobody has collected. */
const isGone = (pid: number) => identifyProcess(pid) === undefined;

test("it has nothing of our environment", async () => {
  const end = await runIsolated({
    script: script("env.mjs", answering("Object.keys(process.env)")),
    timeoutMs: 20_000,
  });
  expect(JSON.parse(end.answer)).toEqual([]);
});

test("with `access` it reads its own files alone, writes none and starts nothing", async () => {
  const secret = script("secret.txt", "secret");
  const own = mkdtempSync(join(directory, "own-"));
  const file = join(own, "look.mjs");
  const looks = `[() => readFileSync(${
    JSON.stringify(secret)
  }, "utf8"), () => readFileSync("/proc/" + process.ppid + "/environ", "utf8"),
    () => writeFileSync(${JSON.stringify(join(own, "new"))}, ""), () => spawnSync("true").status]`;
  writeFileSync(file, answering(`${looks}.map(tried)`));
  const end = await runIsolated({ script: file, timeoutMs: 20_000, access: { read: [own] } });
  expect(JSON.parse(end.answer)).toEqual(Array(4).fill("ERR_ACCESS_DENIED"));
});

test("a child of its own cannot open its debugger", async () => {
  const child = script("signal.mjs", `process.kill(process.ppid, "SIGUSR1");`);
  const signalled = script(
    "signalled.mjs",
    `import { spawnSync } from "node:child_process"; import inspector from "node:inspector"; import { writeSync } from "node:fs";
     process.on("exit", () => writeSync(3, String(inspector.url())));
     spawnSync(process.execPath, [${JSON.stringify(child)}]);
     setTimeout(() => {}, 500);`,
  );
  const end = await runIsolated({ script: signalled, timeoutMs: 20_000 });
  expect([end.signal, end.answer]).toEqual(end.signal === null ? [null, "undefined"] : ["SIGUSR1", ""]);
});

test("what loops is killed when it is late, with what it started", async () => {
  const pidFile = join(directory, "started.pid");
  const looping = script(
    "loop.mjs",
    `import { spawn } from "node:child_process"; import { writeFileSync } from "node:fs";
     writeFileSync(${JSON.stringify(pidFile)}, String(spawn("sleep", ["600"]).pid)); for (;;);`,
  );
  expect(await runIsolated({ script: looping, timeoutMs: 3_000, environment: { PATH: process.env["PATH"] ?? "" } }))
    .toMatchObject({ isLate: true, signal: "SIGKILL" });
  await vi.waitFor(() => expect(isGone(Number(readFileSync(pidFile, "utf8")))).toBe(true));
}, 30_000);

test("what loops is ended by the kernel where its parent was killed itself", async () => {
  const pidFile = join(directory, "orphan.pid");
  const looping = script(
    "orphan.mjs",
    `import { writeFileSync } from "node:fs"; writeFileSync(${
      JSON.stringify(pidFile)
    }, String(process.pid)); for (;;);`,
  );
  const module = new URL("../../host/isolated-node.ts", import.meta.url).href;
  const parent = script(
    "parent.mjs",
    `const { runIsolated } = await import(${JSON.stringify(module)});
     await runIsolated({ script: ${JSON.stringify(looping)}, timeoutMs: 1_000 });`,
  );
  const child = spawn(process.execPath, [parent], { stdio: "ignore" });
  onTestFinished(() => void child.kill("SIGKILL"));
  await vi.waitFor(() => expect(readFileSync(pidFile, "utf8")).toMatch(/\d/), { timeout: 20_000, interval: 5 });
  child.kill("SIGKILL");
  const pid = Number(readFileSync(pidFile, "utf8"));
  await vi.waitFor(() => expect(isGone(pid)).toBe(true), { timeout: 60_000 });
}, 90_000);
