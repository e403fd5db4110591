import { mkdtempSync, realpathSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, onTestFinished, test } from "vitest";
import { createReplayGate, type StagedCode } from "../../deployer/replay/replay-gate.ts";
import { openTemporal, type TemporalService } from "../../deployer/readiness/temporal-service.ts";
import { createScratch } from "../../deployer/scratch.ts";
import { freePort } from "../../host/free-port.ts";
import { parseManifest } from "../../supabase/functions/_shared/manifest.ts";
import { eventually } from "../support/services.ts";
import { manifestOf } from "../worker/support/manifests.ts";
import { pushedCode } from "../worker/support/pushed-code.ts";
import { type ServiceFixture, startServiceFixture, uniqueSchema } from "../worker/support/service-fixture.ts";
import { startWorker, type WorkerProcess } from "../worker/support/worker-process.ts";

let fixture: ServiceFixture;
let temporal: TemporalService;
let worker: WorkerProcess;
const scratch = createScratch();
const schema = uniqueSchema();
const directories: string[] = [];
const never = new AbortController().signal;

/** A revision's code as it is staged, with these workflows. */
function stagedCode(workflows: string, options: object = {}): StagedCode & { path: string } {
  const path = realpathSync(mkdtempSync(join(tmpdir(), "osp-test-replay-")));
  directories.push(path);
  pushedCode(path, { workflows });
  const manifest = manifestOf({
    schema,
    workflows: { approve: ["note"] },
    workflowsPath: "./code/workflows.mjs",
    options: { activity_endpoint: "http://127.0.0.1:9", code: "0".repeat(64), ...options },
  });
  writeFileSync(join(path, "manifest.json"), JSON.stringify(manifest));
  return {
    path,
    codeRoot: path,
    manifest: parseManifest("manifest.json", manifest),
    bundles: new Map([[`${schema}-tasks`, join(path, "code", "workflow-bundle.js")]]),
  };
}

const HEAD = `import { condition, defineSignal, patched, setHandler, sleep } from "@temporalio/workflow";\n`;
const OLD = `${HEAD}
export async function approve() {
  let isApproved = false;
  setHandler(defineSignal("approve"), () => void (isApproved = true));
  await sleep(10);
  await condition(() => isApproved);
  return "approved";
}
`;
const WITHOUT_TIMER = OLD.replace("  await sleep(10);\n", "");
const PATCHED = OLD.replace("await sleep(10);", `if (!patched("no timer")) await sleep(10);`);
const RENAMED = OLD.replace("function approve", "function approveAll");
const gateOf = (mostOfType: number) => createReplayGate(temporal, scratch, mostOfType);

beforeAll(async () => {
  fixture = await startServiceFixture();
  temporal = openTemporal({ TEMPORAL_ADDRESS: fixture.address });
  worker = startWorker(stagedCode(OLD).path, {
    MANIFEST_PATH: "manifest.json",
    TEMPORAL_ADDRESS: fixture.address,
    OSP_ACTIVITY_NETWORKS: "127.0.0.0/8",
  });
  await worker.event("worker.ready", 60_000);
  for (const name of ["first", "second", "third"]) {
    const handle = await fixture.client.workflow.start("approve", {
      taskQueue: `${schema}-tasks`,
      workflowId: `${schema}-${name}`,
    });
    const hasFired = async () => (await handle.fetchHistory()).events?.some((event) => event.timerFiredEventAttributes);
    await eventually(hasFired, Boolean);
  }
  const listed = async () => (await fixture.client.workflow.count(`TaskQueue = "${schema}-tasks"`)).count;
  await eventually(listed, (count) => count >= 3);
}, 120_000);
afterAll(async () => {
  await worker.kill();
  await temporal.close();
  await fixture.stop();
  await scratch.close();
  for (const directory of directories) rmSync(directory, { recursive: true, force: true });
}, 60_000);

/** What is said of a revision on its way through. */
async function pass(staged: StagedCode, mostOfType = 20): Promise<string[]> {
  const lines: string[] = [];
  await gateOf(mostOfType).check(staged, (line) => lines.push(line), never);
  return lines;
}

test("code with which open workflows can go on passes", async () => {
  expect(await pass(stagedCode(PATCHED))).toEqual(["3 open workflows replay with the new code"]);
}, 60_000);

test("a change that their histories do not fit is refused with workflow, type and reason", async () => {
  await expect(pass(stagedCode(WITHOUT_TIMER))).rejects.toMatchObject({
    class: "permanent",
    code: "replay_mismatch",
    message: expect.stringMatching(
      RegExp(
        `^3 of 3 open workflows of service "${schema}" .*older revision keeps running: workflow "${schema}-third" \\(approve\\): ` +
          `.*TMPRL1100.*options\\.replay_gate`,
        "s",
      ),
    ),
  });
}, 60_000);

test("a type that the new code does not have is refused", async () => {
  await expect(pass(stagedCode(RENAMED))).rejects.toMatchObject({
    code: "replay_mismatch",
    message: expect.stringContaining("(approve): the new code has no such workflow; it has approveAll"),
  });
}, 60_000);

test("of each type only the newest are replayed, as many as the setting says", async () => {
  expect(await pass(stagedCode(PATCHED), 2)).toEqual(["2 open workflows replay with the new code"]);
  await expect(pass(stagedCode(WITHOUT_TIMER), 1)).rejects.toThrow(`workflow "${schema}-third"`);
  expect(await pass(stagedCode(WITHOUT_TIMER), 0)).toEqual([]);
}, 90_000);

test("a service can do without, and its row says so", async () => {
  expect(await pass(stagedCode(WITHOUT_TIMER, { replay_gate: false }))).toEqual([
    "open workflows are not replayed with the new code: options.replay_gate is false",
  ]);
}, 60_000);

test("while Temporal is away nothing is said of the code", async () => {
  const away = openTemporal({ TEMPORAL_ADDRESS: `127.0.0.1:${await freePort()}` });
  onTestFinished(() => away.close());
  await expect(createReplayGate(away, scratch, 20).check(stagedCode(PATCHED), () => {}, never)).rejects.toMatchObject({
    class: "unavailable",
    code: "temporal_unreachable",
  });
}, 60_000);
