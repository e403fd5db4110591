import { Client, Connection } from "@temporalio/client";
import { cpSync, mkdtempSync, readFileSync, realpathSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { execa } from "execa";
import { afterAll, beforeAll, expect, test } from "vitest";
import { findWorkers } from "../../deployer/platforms/local/strays.ts";
import { workersDirectory } from "../../deployer/platforms/local/worker-record.ts";
import { eventually } from "../support/services.ts";
import { createStackDirectory } from "../support/stack.ts";

// The example with code of its own on a whole stack, by what a person types: push, row, push of a change.
const repository = fileURLToPath(new URL("../../", import.meta.url));
const stack = createStackDirectory();
let started: ReturnType<typeof stack.start>;
let connection: Connection;
/** A copy of the example, to be edited; its packages are those of the repository. */
const sources = realpathSync(mkdtempSync(join(tmpdir(), "osp-test-claims-")));

beforeAll(async () => {
  cpSync(join(repository, "examples", "claims"), sources, { recursive: true });
  symlinkSync(join(repository, "node_modules"), join(sources, "node_modules"));
  started = stack.start();
  await started.running();
  connection = await Connection.connect({ address: stack.addresses()["TEMPORAL_ADDRESS"] ?? "" });
}, 180_000);
afterAll(async () => {
  await connection.close();
  await started.end("SIGINT");
  await stack.clear();
  rmSync(sources, { recursive: true, force: true });
}, 120_000);

function osp(...args: string[]) {
  return execa(process.execPath, [join(repository, "scripts", "osp.mjs"), ...args], {
    cwd: sources,
    env: { PATH: process.env["PATH"] ?? "", HOME: process.env["HOME"] ?? "", OSP_STATE_DIR: stack.directory },
    extendEnv: false,
    reject: false,
    all: true,
  });
}

const edit = (file: string, from: string, to: string) =>
  writeFileSync(join(sources, file), readFileSync(join(sources, file), "utf8").replace(from, to));
const deployments = () =>
  stack.query<{ revision: number; deployment_status: string; code: string; error_message: string | null }>(
    `select revision, deployment_status, manifest #>> '{options,code}' as code, error_message
     from osp_metadata.worker_registry where service_schema = 'claims' order by revision`,
  );

/** Starts a claim's workflow, which waits for a decision. */
function start(workflowId: string, remindAfterMs: number) {
  return new Client({ connection }).workflow.start("processClaim", {
    taskQueue: "claims-tasks",
    workflowId,
    args: [{ claim_id: workflowId, amount: 1250 }, remindAfterMs],
  });
}

test("push, row, workflow: a timer, a signal and an npm package", async () => {
  const pushed = await osp("code", "push", "claims", ".");
  expect(pushed.exitCode, pushed.all).toBe(0);
  expect(pushed.stdout).toMatch(
    /^workflows: processClaim\nactivities: payClaim, registerClaim, remindAssessor\nstored: code\/claims\/[0-9a-f]{64}\.tar\.gz/,
  );
  // What it prints is what is run.
  const insert = pushed.stdout.slice(pushed.stdout.indexOf("insert into osp.services"));
  await stack.query(insert);
  await eventually(deployments, ([first]) => first?.deployment_status === "deployed");

  const claim = await start("c-1", 50);
  await eventually(() => claim.query<string>("status"), (status) => /^waiting, [1-9]/.test(status));
  await claim.signal("decide", "approved");
  expect(await claim.result()).toBe("c-1 paid: 12.50");
  // The code's own validation, by zod, and its line of TypeScript.
  const invalid = new Client({ connection }).workflow.execute("processClaim", {
    taskQueue: "claims-tasks",
    workflowId: "c-invalid",
    args: [{ claim_id: "" }],
  });
  const failure = await invalid.then(() => undefined, (error: unknown) => Object(error).cause?.cause);
  expect(failure).toMatchObject({ type: "InvalidClaim", stack: expect.stringMatching(/activities\.ts:\d+/) });
});

test("the same sources are the same code: nothing is stored and nothing is deployed", async () => {
  const [before] = await deployments();
  const again = await osp("code", "push", "claims", ".", "--set");
  expect(again.exitCode, again.all).toBe(0);
  expect(again.stdout).toContain(`was stored already: code/claims/${before?.code}.tar.gz`);
  expect(again.stdout).toContain("revision 1 of claims: requested");
  expect(await deployments()).toHaveLength(1);
});

test("a push of a change is a new revision, and what runs goes on with it", async () => {
  const running = await start("c-2", 3_600_000);
  await eventually(() => running.query<string>("status"), (status) => status === "waiting, 0 reminders sent");
  edit("activities.ts", "paid: ", "was paid ");
  const pushed = await osp("code", "push", "claims", ".", "--wait");
  expect(pushed.exitCode, pushed.all).toBe(0);
  expect(pushed.stdout).toContain("revision 2 of claims: deployed");
  await eventually(
    () => Promise.resolve(findWorkers(join(workersDirectory(stack.directory), "claims"))),
    (workers) => workers.length === 1,
  );
  await running.signal("decide", "approved");
  expect(await running.result()).toBe("c-2 was paid 12.50");
  const [first, second] = await deployments();
  expect([first?.deployment_status, second?.deployment_status]).toEqual(["stopped", "deployed"]);
  expect(second?.code).not.toBe(first?.code);
});

test("code that running workflows cannot go on with is not deployed: they end under the older revision", async () => {
  const running = await start("c-4", 3_600_000);
  await eventually(() => running.query<string>("status"), (status) => status === "waiting, 0 reminders sent");
  const before = readFileSync(join(sources, "workflows.ts"), "utf8");
  edit("workflows.ts", "await registerClaim(input);", "await registerClaim(input);\n  await remindAssessor(claim);");
  const pushed = await osp("code", "push", "claims", ".", "--wait");
  expect(pushed.exitCode).toBe(1);
  const [, second, third] = await deployments();
  expect([second?.deployment_status, third?.deployment_status]).toEqual(["deployed", "failed"]);
  expect(third?.error_message).toMatch(/^1 of 1 open workflows .*workflow "c-4" \(processClaim\): .*TMPRL1100/s);
  expect(pushed.all).toContain(`workflow "c-4" (processClaim)`);
  await running.signal("decide", "approved");
  expect(await running.result()).toBe("c-4 was paid 12.50");
  writeFileSync(join(sources, "workflows.ts"), before);
});

test("a push that does not fit is refused with every problem, and nothing is stored", async () => {
  const objects = () => stack.query(`select name from storage.objects where bucket_id = 'code' order by name`);
  const before = await objects();
  edit("activities.ts", "export async function remindAssessor", "export async function remindEverybody");
  edit("activities.ts", "(amount / 100).toFixed(2)", "amount.toFixd(2)");
  const refused = await osp("code", "push", "claims", ".", "--set");
  expect(refused.exitCode).toBe(1);
  expect(refused.stdout).toBe("");
  expect(refused.stderr).toMatch(/^Nothing was pushed: \d problems?\n/);
  expect(refused.stderr).toMatch(/activities\.ts\(\d+,\d+\): error TS\d+: Property 'toFixd' does not exist/);
  expect(refused.stderr).toMatch(/workflows\.ts\(\d+,\d+\): error TS\d+: Property 'remindAssessor' does not exist/);
  expect(refused.stderr).toContain(
    `activity "remindAssessor": ./code/activities.mjs exports no such function; it exports `,
  );
  expect(await objects()).toEqual(before);
  expect(await deployments()).toHaveLength(3);
});

test("a rollback brings the earlier code back", async () => {
  const [first] = await deployments();
  await stack.query(`select osp.rollback('claims', 1)`);
  const rows = await eventually(deployments, ([, , , fourth]) => fourth?.deployment_status === "deployed");
  expect(rows[3]?.code).toBe(first?.code);
  const claim = await start("c-3", 3_600_000);
  await claim.signal("decide", "rejected");
  expect(await claim.result()).toBe("c-3 rejected");
});
