import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, expect, onTestFinished, test } from "vitest";
import { identifyProcess } from "../../host/process-identity.ts";
import { type FakeRailway, startFakeRailway } from "../../local/railway/fake-railway.ts";
import { writeStubCli } from "../../local/railway/stub-cli.ts";
import { useDatabase } from "../support/database.ts";
import { createRailwayMachine, onRailway, type RailwayMachine, wrapCli } from "../support/railway/deployers.ts";
import { resetDatabase } from "../support/railway/reset.ts";
import { scratchDirectory } from "../support/railway/scratch.ts";
import { eventually } from "../support/services.ts";

const database = useDatabase();
const stub = writeStubCli(scratchDirectory(), process.env);
let fake: FakeRailway;
let machine: RailwayMachine;

beforeEach(async () => {
  await resetDatabase(database);
  fake = await startFakeRailway();
  machine = createRailwayMachine(database, stub, fake);
});
afterEach(async () => {
  await machine.clear();
  await fake.stop();
  expect(fake.journal.violations).toEqual([]);
});

/** A CLI that does this first. It goes with the test. */
function wrapped(script: string) {
  const wrapper = wrapCli(stub, script);
  onTestFinished(wrapper.remove);
  return wrapper;
}

/** All that the database holds of deployments, as text. */
async function everythingWritten(): Promise<string> {
  const tables = ["worker_registry", "deployment_attempts", "platforms", "service_intents"];
  const rows = await Promise.all(
    tables.map((table) => database.rows(`select t::text from osp_metadata.${table} as t`)),
  );
  return JSON.stringify(rows);
}

test("the CLI gets an environment built from nothing, a HOME of its own per call, and no secret on its command line", async () => {
  const seen = scratchDirectory();
  const { path } = wrapped(`
    printf '%s\\n' "$@" > '${seen}'/args.$count; env > '${seen}'/env.$count
    [ "$1" = up ] && [ -n "$(cat)" ] && touch '${seen}'/stdin-was-open`);
  const deployer = machine.start({
    RAILWAY_CLI_PATH: path,
    OSP_RAILWAY_VARIABLES: '{"API_PASSWORD":"variable-secret"}',
    TEMPORAL_API_KEY: "temporal-secret",
    OSP_ACTIVITY_SECRET: "activities-secret",
    // What Railway gives a deployer that it runs, and what a CI runner exports.
    ...{ RAILWAY_PROJECT_ID: "theirs", RAILWAY_SERVICE_ID: "theirs", RAILWAY_ENVIRONMENT_ID: "theirs", CI: "true" },
    ...{ RAILWAY_TOKEN: "project-token", SOMETHING: "else" },
  });
  await machine.insert("billing");
  await machine.deployed("billing");
  fake.operator.removeService("billing");
  await database.rows(`delete from osp.services`);
  await machine.ringBell();
  await machine.row("billing", (row) => row.revision === 2 && row.deployment_status === "stopped");

  const read = (kind: string) =>
    readdirSync(seen).filter((name) => name.startsWith(kind)).map((name) => readFileSync(join(seen, name), "utf8"));
  const environments = read("env.").map((text) =>
    Object.fromEntries(text.trim().split("\n").map((line) => line.split(/=(.*)/s).slice(0, 2)))
  );
  expect(environments.length).toBeGreaterThan(8);
  for (const environment of environments) {
    const { PWD: _, SHLVL: __, _: ___, OLDPWD: ____, ...given } = environment; // sh's own
    expect(Object.keys(given).sort()).toEqual([
      ...["HOME", "HTTPS_PROXY", "NO_COLOR", "PATH", "RAILWAY_AGENT_ADVISORY", "RAILWAY_API_TOKEN"],
      ...["RAILWAY_CAC_DEPRECATION_WARNING", "RAILWAY_CALLER", "RAILWAY_HTTP_TIMEOUT", "RAILWAY_NO_AUTO_UPDATE"],
      ...["RAILWAY_NO_TELEMETRY", "SSL_CERT_FILE", "TMPDIR"],
    ]);
  }
  const homes = environments.map((environment) => String(environment["HOME"]));
  expect(new Set(homes).size).toBe(homes.length);
  expect(homes.filter((home) => existsSync(home))).toEqual([]);
  expect(existsSync(join(seen, "stdin-was-open"))).toBe(false);

  const secrets = [fake.tokens.workspace, "variable-secret", "temporal-secret", "activities-secret"];
  const places = { args: read("args.").join("\n"), log: deployer.output(), rows: await everythingWritten() };
  for (const [place, text] of Object.entries(places)) {
    for (const secret of secrets) expect(text.includes(secret), `${secret} in ${place}`).toBe(false);
  }
  await deployer.stop();
  expect(readdirSync(machine.temporary)).toEqual([]);
});

test("a secret that Railway repeats in an error or a log does not reach the row", async () => {
  const deployer = machine.start({
    OSP_RAILWAY_VARIABLES: '{"API_PASSWORD":"variable-secret"}',
    OSP_MAX_ATTEMPTS: "1",
  });
  const message = `Cannot take variable-secret of ${fake.tokens.workspace}`;
  const body = JSON.stringify({ data: null, errors: [{ message }] });
  fake.faults.add({
    on: "serviceCreate",
    answer: { status: 200, headers: { "content-type": "application/json" }, body },
  });
  await machine.insert("billing");
  const row = await machine.failed("billing");
  expect(row.error_message).toContain("Cannot take *** of ***");
  for (const text of [deployer.output(), await everythingWritten()]) {
    expect(text).not.toContain("variable-secret");
    expect(text).not.toContain(fake.tokens.workspace);
  }
});

test("a call that does not end is killed with all that it has started, and costs no attempt", async () => {
  const seen = scratchDirectory();
  const { path } = wrapped(`
    if [ "$1" = api ] && [ ! -e '${seen}'/pid ]; then sleep 300 & echo $! > '${seen}'/pid.new; mv '${seen}'/pid.new '${seen}'/pid; wait; fi`);
  // The first call of `api` is the preflight's: it hangs too, and the deployer tries again.
  machine.start({ RAILWAY_CLI_PATH: path, OSP_RAILWAY_CALL_TIMEOUT_SECONDS: "1" });
  await eventually(() => Promise.resolve(existsSync(join(seen, "pid"))), (isThere) => isThere);
  const grandchild = Number(readFileSync(join(seen, "pid"), "utf8"));
  await eventually(() => Promise.resolve(identifyProcess(grandchild)), (running) => running === undefined);
  await machine.insert("billing");
  expect(await machine.deployed("billing")).toMatchObject({ retry_count: 0 });
});

test("what a killed deployer leaves behind is gone with the next one: its calls at once, its files at the start", async () => {
  const seen = scratchDirectory();
  const { path } = wrapped(
    `if [ "$1" = up ]; then sleep 300 & echo $! > '${seen}'/pid.new; mv '${seen}'/pid.new '${seen}'/pid; wait; fi`,
  );
  const deployer = machine.start({ RAILWAY_CLI_PATH: path });
  await machine.insert("billing");
  await eventually(() => Promise.resolve(existsSync(join(seen, "pid"))), (isThere) => isThere);
  const grandchild = Number(readFileSync(join(seen, "pid"), "utf8"));
  await deployer.kill();
  await eventually(() => Promise.resolve(identifyProcess(grandchild)), (running) => running === undefined);
  const [left, ...others] = readdirSync(machine.temporary);
  expect(others).toEqual([]);
  machine.start();
  await machine.deployed("billing");
  expect(readdirSync(machine.temporary)).not.toContain(left);
});

test("a deployer that ends takes its calls along", async () => {
  const seen = scratchDirectory();
  const { path } = wrapped(
    `if [ "$1" = up ]; then sleep 300 & echo $! > '${seen}'/pid.new; mv '${seen}'/pid.new '${seen}'/pid; wait; fi`,
  );
  const deployer = machine.start({ RAILWAY_CLI_PATH: path, OSP_SHUTDOWN_SECONDS: "0.2" });
  await machine.insert("billing");
  await eventually(() => Promise.resolve(existsSync(join(seen, "pid"))), (isThere) => isThere);
  const grandchild = Number(readFileSync(join(seen, "pid"), "utf8"));
  expect(await deployer.stop()).toBe(0);
  expect(identifyProcess(grandchild)).toBeUndefined();
  expect(await machine.row("billing", (row) => row.deployment_status === "pending")).toMatchObject({
    logs: expect.stringContaining("handed back: the deployer was told to stop"),
  });
  machine.start();
  await machine.deployed("billing");
  expect(onRailway(fake, "billing")).toMatchObject({ services: [{}], running: [{}], pending: [] });
});

test("what cannot be staged waits, and goes on when there is room again", async () => {
  // Files of at most 4 KiB can be written: what is copied into the upload breaks off in the middle, as on a full disk.
  const full = machine.start({}, ["sh", "-c", 'ulimit -f 8; exec "$@"', "sh"]);
  await machine.insert("billing");
  const row = await machine.row("billing", ({ error_code }) => error_code === "staging_failed");
  expect(row).toMatchObject({
    retry_count: 0,
    error_message: expect.stringMatching(/Cannot write below .*disk full/),
  });
  expect(onRailway(fake, "billing").deployments).toEqual([]);
  await full.stop();
  expect(readdirSync(machine.temporary)).toEqual([]);
  machine.start();
  expect(await machine.deployed("billing")).toMatchObject({ retry_count: 0 });
});

test("a directory for temporary files that is none", async () => {
  const place = join(machine.temporary, "tmp");
  writeFileSync(place, "");
  const deployer = machine.start({ TMPDIR: place });
  await deployer.event("railway.failing");
  expect(deployer.output()).toContain(place);
  rmSync(place);
  mkdirSync(place);
  await machine.insert("billing");
  await machine.deployed("billing");
});
