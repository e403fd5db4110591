import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { isRunning, type ProcessIdentity, signalProcess } from "../../host/process-identity.ts";
import { startProgram } from "../../local/child-program.ts";
import { eventually } from "../support/services.ts";

test("what is just being started again is ended as well, though it does not serve yet", async () => {
  const directory = mkdtempSync(join(tmpdir(), "osp-test-program-"));
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }));
  const slow = join(directory, "slow");
  const started: ProcessIdentity[] = [];
  onTestFinished(() => {
    for (const process of started.filter(isRunning)) signalProcess(process, "SIGKILL");
  });
  const program = await startProgram({
    name: "a-program",
    command: process.execPath,
    arguments: ["-e", "setInterval(() => {}, 1000)"],
    environment: {},
    logFile: join(directory, "a-program.log"),
    isReady: () => !existsSync(slow),
    onStarted: (identity) => started.push(identity),
    onDied: () => {},
  });
  writeFileSync(slow, "");
  for (const process of started) signalProcess(process, "SIGKILL");
  await eventually(() => Promise.resolve(started.length), (count) => count === 2);
  await program.stop();
  expect(started.map(isRunning)).toEqual([false, false]);
});
