import { Client, Connection } from "@temporalio/client";
import { createHash } from "node:crypto";
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { freePort } from "../../host/free-port.ts";
import { useApi } from "../client/api.ts";
import { KEYS } from "../local/stand.ts";
import { archiveOf, CODE_BUCKET_SQL, hashed, store, type TestArchive, unstore } from "../support/code-archive.ts";
import { useDatabase } from "../support/database.ts";
import { createMachine, type TestDeployer } from "../support/deployer.ts";
import { createTestHandler, ring } from "../support/edge-function.ts";
import { eventually, insertService, registryOf, type RegistryRow } from "../support/services.ts";
import { tarOf } from "../support/tar.ts";
import { startTemporalServer, type TemporalServer } from "../support/temporal-server.ts";

// Real deployers, a real Storage API, real workers. What a push checks is not checked here: anybody may have written to Storage.
const database = useDatabase();
const api = useApi(database);
const machine = createMachine(database, () => temporal.address);
/** Whatever a row names is there as far as the Edge Function knows. */
const handler = createTestHandler(database, {
  code: { keep: () => Promise.resolve(true), remove: () => Promise.reject(new Error("not to be called")) },
});
let temporal: TemporalServer;
let connection: Connection;
const cache = mkdtempSync(join(tmpdir(), "osp-test-code-cache-"));
const deployers: TestDeployer[] = [];

beforeAll(async () => {
  temporal = await startTemporalServer();
  connection = await Connection.connect({ address: temporal.address });
  await database.rows(CODE_BUCKET_SQL);
});
afterAll(async () => {
  await machine.clear();
  await connection.close();
  await temporal.stop();
  rmSync(cache, { recursive: true, force: true });
});

const storage = () => ({ SUPABASE_URL: api.url, SUPABASE_SECRET_KEY: KEYS.SECRET_KEY, OSP_CACHE_DIR: cache });
function start(environment: Record<string, string> = storage()): TestDeployer {
  const deployer = machine.start(environment);
  deployers.push(deployer);
  return deployer;
}
beforeEach(async () => {
  await Promise.all(deployers.splice(0).map((deployer) => deployer.stop()));
  rmSync(join(cache, "service-code"), { recursive: true, force: true });
});

const workflows = [{ name: "doWork", activities: ["first"] }];
/** A service with this code, stored, and its deployment asked for. */
async function insert(schema: string, code: TestArchive): Promise<void> {
  await store(api.url, schema, code);
  await insertService(database, schema, { workflows, options: { code: code.code } });
  await handler(ring());
}
async function row(schema: string, satisfies: (row: RegistryRow) => boolean): Promise<RegistryRow> {
  const newest = async () => (await registryOf(database, schema)).at(-1);
  const found = await eventually(newest, (candidate) => candidate !== undefined && satisfies(candidate));
  if (found === undefined) throw new Error("there is no row");
  return found;
}
const ended = (schema: string) =>
  row(schema, ({ deployment_status }) => /deployed|failed|stopped/.test(deployment_status));
const deferred = (schema: string) => row(schema, ({ error_code }) => error_code !== null);
const run = (schema: string) =>
  new Client({ connection }).workflow.execute("doWork", {
    taskQueue: `${schema}-tasks`,
    workflowId: `${schema}-${Date.now()}`,
    args: [{}],
  });
/** Different in each test: the same bytes would be in the cache. */
const answering = (result: string) =>
  archiveOf(`export async function first() { return ${JSON.stringify(result)}; }\n`);

test("code from Storage is what the worker runs; it knows no credential, and no log holds the key", async () => {
  const secret = "of-the-activities-of-others";
  const deployer = start({
    ...storage(),
    OSP_ACTIVITY_SECRET: secret,
    OSP_ACTIVITY_SECRET_PREVIOUS: `${secret}-before`,
  });
  await insert("own", archiveOf(`export async function first() { return process.env; }\n`));
  expect(await ended("own")).toMatchObject({
    deployment_status: "deployed",
    logs: expect.stringMatching(/fetching and checking its code [0-9a-f]{64}\n[^]*deploying on local/),
  });
  const environment: Record<string, string> = Object(await run("own"));
  expect(environment).toHaveProperty("MANIFEST_PATH");
  expect(Object.keys(environment).filter((name) => /SUPABASE|RAILWAY|DATABASE|WEBHOOK|SECRET|KEY/.test(name))).toEqual(
    [],
  );
  expect(JSON.stringify(environment)).not.toContain(KEYS.SECRET_KEY);
  expect(JSON.stringify(environment)).not.toContain(secret);
  await deployer.stop();
  expect(deployer.output()).not.toContain(KEYS.SECRET_KEY);
  expect(machine.workerLog("own", 1)).not.toContain(KEYS.SECRET_KEY);
  expect(JSON.stringify(await database.rows(`select * from osp_metadata.worker_registry`))).not.toContain(
    KEYS.SECRET_KEY,
  );
});

describe("what is nobody's fault uses up no attempt, and goes on by itself", () => {
  test("a deployer without the settings leaves it to one that has them", async () => {
    const without = start({});
    await insert("unset", answering("unset"));
    expect(await deferred("unset")).toMatchObject({
      deployment_status: expect.stringMatching(/pending|deploying/),
      error_code: "code_storage_unset",
      error_message: expect.stringContaining("set SUPABASE_URL and SUPABASE_SECRET_KEY"),
    });
    // Services without code are nothing to it.
    await insertService(database, "plain");
    await handler(ring());
    expect(await ended("plain")).toMatchObject({ deployment_status: "deployed" });
    await without.stop();
    start();
    expect(await ended("unset")).toMatchObject({ deployment_status: "deployed", retry_count: 0 });
    expect(await run("unset")).toBe("unset");
  });

  test.each([
    [
      "a Storage that does not answer",
      async () => ({ SUPABASE_URL: `http://127.0.0.1:${await freePort()}` }),
      "code_storage_unreachable",
    ],
    ["a key that is refused", () => ({ SUPABASE_SECRET_KEY: "sb_secret_wrong" }), "code_storage_refused"],
  ])("%s", async (title, settings, error_code) => {
    const schema = `waits_${createHash("sha256").update(title).digest("hex").slice(0, 8)}`;
    const deployer = start({ ...storage(), ...await settings() });
    await insert(schema, answering(schema));
    expect(await deferred(schema)).toMatchObject({ error_code, retry_count: 0 });
    await deployer.stop();
    start();
    expect(await ended(schema)).toMatchObject({ deployment_status: "deployed", retry_count: 0 });
  });
});

describe("what cannot work fails at once with the reason", () => {
  const link = hashed(tarOf([{ name: "activities.mjs", type: "2", link: "/proc/self/environ" }]));
  const cases: [string, () => TestArchive, object][] = [
    [
      "a link",
      () => link,
      {
        error_code: "code_unusable",
        error_message: expect.stringContaining(`"activities.mjs", which is a symbolic link`),
      },
    ],
    [
      "an archive of something else",
      () => hashed(tarOf([{ name: "readme.txt", content: "hello" }])),
      {
        error_code: "code_unusable",
        error_message: expect.stringContaining(`it holds "readme.txt", which is no part of pushed code`),
      },
    ],
    [
      "names that are missing",
      () => archiveOf("export async function frist() {}\nexport function second() {}\n"),
      {
        error_code: "worker_unusable",
        error_message:
          `The worker refuses its manifest: activity "first": ./code/activities.mjs exports no such function; it exports frist, second`,
      },
    ],
    [
      "a module that ends whatever loads it",
      () => archiveOf("export async function first() {}\nprocess.exit(0);\n"),
      { error_code: "worker_unusable", error_message: expect.stringContaining("ended the process with exit code 0") },
    ],
    [
      "bytes that are not what their name says",
      () => ({ archive: answering("one").archive, code: answering("other").code }),
      { error_code: "code_mismatch", error_message: expect.stringMatching(/has SHA-256 [0-9a-f]{64}, its name says /) },
    ],
  ];

  test.each(cases)("%s", async (title, archive, told) => {
    const schema = `fails_${createHash("sha256").update(title).digest("hex").slice(0, 8)}`;
    start();
    await insert(schema, archive());
    expect(await ended(schema)).toMatchObject({ deployment_status: "failed", retry_count: 0, ...told });
    // Nothing of it came to the platform.
    expect(existsSync(join(machine.stateDirectory, "workers", schema))).toBe(false);
  });

  test("code that went after it was asked for", async () => {
    const code = answering("gone");
    await insert("gone", code);
    await unstore(api.url, "gone", code.code);
    start();
    expect(await ended("gone")).toMatchObject({
      deployment_status: "failed",
      error_code: "code_missing",
      error_message: expect.stringContaining("osp code push gone"),
    });
  });

  test("and the older revision goes on", async () => {
    start();
    await insert("careful", answering("works"));
    await ended("careful");
    const broken = archiveOf("export async function other() {}\n");
    await store(api.url, "careful", broken);
    await database.rows(`select osp.set_code('careful', $1)`, [broken.code]);
    await handler(ring());
    expect(await row("careful", ({ revision, deployment_status }) => revision === 2 && deployment_status === "failed"))
      .toBeDefined();
    expect((await registryOf(database, "careful"))[0]).toMatchObject({ deployment_status: "deployed" });
    expect(await run("careful")).toBe("works");
  });
});

describe("code that was fetched once", () => {
  const kept = () => readdirSync(join(cache, "service-code"));

  test("is not fetched again, and of what was changed on disk nothing is taken", async () => {
    start();
    const code = answering("kept");
    await insert("kept", code);
    await ended("kept");
    expect(kept()).toEqual([`kept-${code.code}.tar.gz`]);
    await unstore(api.url, "kept", code.code);
    await database.rows(`select osp.redeploy('kept')`);
    await handler(ring());
    expect(await row("kept", ({ revision, deployment_status }) => revision === 2 && deployment_status === "deployed"))
      .toBeDefined();

    writeFileSync(join(cache, "service-code", `kept-${code.code}.tar.gz`), answering("something else").archive);
    await database.rows(`select osp.redeploy('kept')`);
    await handler(ring());
    expect(await row("kept", ({ revision, deployment_status }) => revision === 3 && deployment_status === "failed"))
      .toMatchObject({
        error_code: "code_missing",
      });
    await store(api.url, "kept", code);
    await database.rows(`select osp.redeploy('kept')`);
    await handler(ring());
    expect(await row("kept", ({ revision, deployment_status }) => revision === 4 && deployment_status === "deployed"))
      .toBeDefined();
    expect(await run("kept")).toBe("kept");
  });

  test("is one service's: another one with the same hash has it in Storage or not at all", async () => {
    start();
    const code = answering("one's own");
    await insert("one", code);
    await ended("one");
    await insertService(database, "thief", { workflows, options: { code: code.code } });
    await handler(ring());
    expect(await ended("thief")).toMatchObject({ deployment_status: "failed", error_code: "code_missing" });
  });
});
