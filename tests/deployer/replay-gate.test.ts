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
  expect(await pass(stagedCode(PATCHED))).toEqual(["3 open workflows can go on with the new code"]);
}, 60_000);

test("a change that their histories do not fit is refused with workflow, type and reason", async () => {
  await expect(pass(stagedCode(WITHOUT_TIMER))).rejects.toMatchObject({
    class: "permanent",
    code: "replay_mismatch",
    message: expect.stringMatching(
      RegExp(
        `^3 of 3 open workflows of service "${schema}" cannot go on with this revision, which was not deployed: workflow "${schema}-third" \\(approve\\): ` +
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
  expect(await pass(stagedCode(PATCHED), 2)).toEqual(["2 open workflows can go on with the new code"]);
  await expect(pass(stagedCode(WITHOUT_TIMER), 1)).rejects.toThrow(`workflow "${schema}-third"`);
  expect(await pass(stagedCode(WITHOUT_TIMER), 0)).toEqual([]);
}, 90_000);

test("a service can do without, and its row says so", async () => {
  expect(await pass(stagedCode(WITHOUT_TIMER, { replay_gate: false }))).toEqual([
    "open workflows are not replayed with the new code: options.replay_gate is false",
  ]);
}, 60_000);

test("what has not begun, or is stuck already, is nothing that new code could break", async () => {
  const start = async (type: string) => {
    const workflowId = `${schema}-${type}`;
    await fixture.client.workflow.start(type, { taskQueue: `${schema}-tasks`, workflowId });
    onTestFinished(async () => void await fixture.client.workflow.getHandle(workflowId).terminate());
    return workflowId;
  };
  // A name that no code has: its first task fails at once.
  const stray = await start("aprove");
  const events = async () => (await fixture.client.workflow.getHandle(stray).fetchHistory()).events;
  await eventually(events, (found) => found?.some((event) => event.workflowTaskFailedEventAttributes) ?? false);
  await eventually(
    async () => (await fixture.client.workflow.count(`WorkflowType = "aprove" AND ExecutionStatus = "Running"`)).count,
    (count) => count === 1,
  );
  expect(await pass(stagedCode(OLD))).toEqual([
    `not replayed: workflow "${stray}" (it is stuck already)`,
    "3 open workflows can go on with the new code",
  ]);
}, 60_000);

test("a revision without the workflows that run is refused, be it without any code", async () => {
  const withoutWorkflows = stagedCode(OLD);
  writeFileSync(
    join(withoutWorkflows.codeRoot, "code", "code.json"),
    JSON.stringify({ format: 1, sdk_version: "1.24.0", activities: ["note"] }),
  );
  const { code: _, ...options } = withoutWorkflows.manifest.options;
  const withoutCode = { ...withoutWorkflows, manifest: { ...withoutWorkflows.manifest, options } };
  for (const staged of [withoutWorkflows, withoutCode]) {
    await expect(pass(staged)).rejects.toMatchObject({
      code: "replay_mismatch",
      message: expect.stringContaining("(approve): code of the service's own began it, and the new revision has none"),
    });
  }
}, 60_000);

test("workflows of the built-in kind go on under any revision", async () => {
  const builtIn = uniqueSchema();
  const manifest = manifestOf({
    schema: builtIn,
    workflows: { bill: ["charge"] },
    options: { activity_endpoint: `http://127.0.0.1:${await freePort()}` },
  });
  const other = fixture.worker(fixture.codeRoot({ "manifest.json": manifest }));
  await other.event("worker.ready");
  const handle = await fixture.client.workflow.start("bill", { taskQueue: `${builtIn}-tasks`, workflowId: builtIn });
  const isScheduled = async () =>
    (await handle.fetchHistory()).events?.some((event) => event.activityTaskScheduledEventAttributes) ?? false;
  await eventually(isScheduled, Boolean);
  await eventually(
    async () => (await fixture.client.workflow.count(`TaskQueue = "${builtIn}-tasks" AND WorkflowType = "bill"`)).count,
    (count) => count === 1,
  );
  const staged = { codeRoot: tmpdir(), manifest: parseManifest("manifest.json", manifest), bundles: new Map() };
  expect(await pass(staged)).toEqual(["1 open workflows can go on with the new code"]);
}, 60_000);

test("while Temporal is away nothing is said of the code", async () => {
  const away = openTemporal({ TEMPORAL_ADDRESS: `127.0.0.1:${await freePort()}` });
  onTestFinished(() => away.close());
  await expect(createReplayGate(away, scratch, 20).check(stagedCode(PATCHED), () => {}, never)).rejects.toMatchObject({
    class: "unavailable",
    code: "temporal_unreachable",
  });
}, 60_000);
