import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdtempSync, readdirSync, readFileSync, realpathSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { cacheDirectory } from "../../host/cache-directory.ts";
import { BUNDLE_VERSION } from "../../supabase/functions/_shared/service-code.ts";
import { INTERCEPTORS_FILE } from "../../worker/workflow-entry.ts";
import { reply, startActivityServer } from "./support/activity-server.ts";
import { manifestOf, type ManifestSketch } from "./support/manifests.ts";
import { describeOtherwise, pushedCode, type PushedModules, sdkVersion } from "./support/pushed-code.ts";
import { type ServiceFixture, startServiceFixture, uniqueSchema } from "./support/service-fixture.ts";
import { type CodeRoot, createCodeRoot, startWorker } from "./support/worker-process.ts";

let fixture: ServiceFixture;
beforeAll(async () => {
  fixture = await startServiceFixture();
}, 60_000);
afterAll(() => fixture.stop(), 60_000);

const CODE = "0a".repeat(32);
const WORKFLOWS = `
import { proxyActivities } from "@temporalio/workflow";
const { double } = proxyActivities({ startToCloseTimeout: "20s" });
export async function calculate(input) { return { result: await double(input) }; }
`;
const ACTIVITIES = `
import { Context } from "@temporalio/activity";
export async function double(input) { return Context.current().info.activityType === "double" ? input * 2 : null; }
`;

/** A code root as the deployer stages it. */
function staged(modules: PushedModules, sketch: Partial<ManifestSketch> = {}): CodeRoot & { schema: string } {
  const schema = sketch.schema ?? uniqueSchema();
  const codeRoot = createCodeRoot({
    "manifest.json": manifestOf({
      schema,
      workflows: { calculate: ["double"] },
      activitiesPath: "./code/activities.mjs",
      workflowsPath: "./code/workflows.mjs",
      ...sketch,
      options: { code: CODE, ...sketch.options },
    }),
  });
  onTestFinished(() => codeRoot.remove());
  pushedCode(codeRoot.path, modules);
  return { ...codeRoot, schema };
}

/** A cache of this test alone. */
function ownCache(): string {
  const directory = realpathSync(mkdtempSync(join(tmpdir(), "osp-test-cache-")));
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

const bundlesIn = (cache: string) =>
  readdirSync(join(cache, "workflow-bundles")).filter((name) => name.endsWith(".js"));

async function check(codeRoot: Pick<CodeRoot, "path">, environment: Record<string, string> = {}) {
  const base = { MANIFEST_PATH: "manifest.json", OSP_CACHE_DIR: cacheDirectory(process.env) };
  const worker = startWorker(codeRoot.path, { ...base, ...environment }, ["--check"]);
  const { code, last } = await worker.exit(120_000);
  expect(worker.otherOutput).toEqual([]);
  expect(last).toMatchObject({ event: "worker.exit", code });
  const unverified = worker.lines.filter(({ event }) => event === "worker.exports_unverified").map(({ reason }) =>
    reason
  );
  return { code, problems: last?.["problems"], unverified };
}

const run = (schema: string, input: unknown) =>
  fixture.client.workflow.execute("calculate", {
    taskQueue: `${schema}-tasks`,
    workflowId: uniqueSchema(),
    args: [input],
  });

test("what is put into every bundle has a number, by which pushed bundles of before are known", () => {
  const sha256 = createHash("sha256").update(readFileSync(INTERCEPTORS_FILE)).digest("hex");
  // Where it changes the number must, and then this.
  expect({ version: BUNDLE_VERSION, sha256 }).toEqual({
    version: 3,
    sha256: "d63bad6a0a530afa0198b6096584381b91998b7497747fd9d51daa7907f9b0af",
  });
});

describe("a worker of pushed code", () => {
  test(
    "starts from the bundle that was pushed: it makes none, and after a check it does not look at it again",
    async () => {
      const { path, schema } = staged({ workflows: WORKFLOWS, activities: ACTIVITIES });
      const cache = ownCache();
      expect(await check({ path }, { OSP_CACHE_DIR: cache })).toEqual({
        code: 0,
        problems: [],
        unverified: [],
      });
      const [checked, ...others] = readdirSync(join(cache, "workflow-bundles"));
      expect(checked).toMatch(/^[0-9a-f]{64}\.checked$/);
      expect(others).toEqual([]);
      const worker = startIn(path, { OSP_CACHE_DIR: cache });
      await worker.event("worker.ready");
      expect(await run(schema, 5)).toEqual({ result: 10 });
      expect(readdirSync(join(cache, "workflow-bundles"))).toEqual([checked]);
    },
    60_000,
  );

  test.each([
    ["its SDK is another than the one they were bundled for", { sdk_version: `${sdkVersion}-older` }],
    ["what is put into a bundle beside them was another", { bundle_version: undefined }],
  ])("bundles them anew where %s, once", async (_, changes) => {
    const { path, schema } = staged({ workflows: WORKFLOWS, activities: ACTIVITIES });
    describeOtherwise(path, changes);
    const cache = ownCache();
    expect(await check({ path }, { OSP_CACHE_DIR: cache })).toMatchObject({ code: 0 });
    const bundles = bundlesIn(cache);
    expect(bundles).toHaveLength(1);
    await startIn(path, { OSP_CACHE_DIR: cache }).event("worker.ready");
    expect(await run(schema, 5)).toEqual({ result: 10 });
    expect(bundlesIn(cache)).toEqual(bundles);
  }, 60_000);

  test("runs the built-in workflow where the code brings activities alone", async () => {
    const { path, schema } = staged({ activities: ACTIVITIES });
    await startIn(path).event("worker.ready");
    expect(await run(schema, 5)).toBe(10);
  }, 60_000);

  test("posts to the endpoint where the code brings workflows alone", async () => {
    const server = await startActivityServer((call, response) => reply(response, 200, { posted: call.body["input"] }));
    onTestFinished(() => server.close());
    const { path, schema } = staged({ workflows: WORKFLOWS }, { options: { activity_endpoint: server.url } });
    await startIn(path).event("worker.ready");
    expect(await run(schema, 5)).toEqual({ result: { posted: 5 } });
  }, 60_000);

  function startIn(path: string, environment: Record<string, string> = {}) {
    const worker = startWorker(path, {
      MANIFEST_PATH: "manifest.json",
      TEMPORAL_ADDRESS: fixture.address,
      OSP_CACHE_DIR: cacheDirectory(process.env),
      // The endpoint is on this machine.
      OSP_ACTIVITY_NETWORKS: "127.0.0.0/8,::1",
      ...environment,
    });
    onTestFinished(() => worker.kill());
    return worker;
  }
});

describe("--check of pushed code", () => {
  test("lists every name that is missing", async () => {
    const codeRoot = staged({ workflows: WORKFLOWS, activities: ACTIVITIES }, {
      workflows: { calculate: ["double", "triple"], catchAll: ["default2"], guess: ["double"] },
    });
    expect(await check(codeRoot)).toEqual({
      code: 78,
      problems: [
        `activity "triple": ./code/activities.mjs exports no such function; it exports double`,
        `activity "default2": ./code/activities.mjs exports no such function; it exports double`,
        `workflow "catchAll": ./code/workflows.mjs exports no such function; it exports calculate`,
        `workflow "guess": ./code/workflows.mjs exports no such function; it exports calculate`,
      ],
      unverified: [],
    });
  });

  test("asks for an endpoint where the code brings no activities", async () => {
    const codeRoot = staged({ workflows: WORKFLOWS });
    expect(await check(codeRoot)).toMatchObject({
      code: 78,
      problems: [expect.stringMatching(/^options\.activity_endpoint: missing/)],
    });
  });

  test.each([
    ["is not there", undefined, /^options\.code: there is no file "code\/code\.json"/],
    ["is of a newer format", { format: 2 }, /^options\.code: code\/code\.json: format: is of a newer format/],
    ["is no JSON", "{", /^options\.code: code\/code\.json cannot be read: /],
  ])("tells when the code %s", async (_, changes, problem) => {
    const codeRoot = staged({ activities: ACTIVITIES });
    if (changes === undefined) rmSync(join(codeRoot.path, "code"), { recursive: true });
    else if (typeof changes === "string") codeRoot.write("code/code.json", changes);
    else describeOtherwise(codeRoot.path, changes);
    expect(await check(codeRoot)).toMatchObject({ code: 78, problems: [expect.stringMatching(problem)] });
  });

  test("what cannot be loaded without the environment that it has where it runs is no problem, its names are", async () => {
    const activities = `
export async function double(input) { return input * 2; }
if (process.env.STRIPE_KEY === undefined) throw new Error("STRIPE_KEY is not set");
`;
    const reason = "activities_path: ./code/activities.mjs cannot be loaded: STRIPE_KEY is not set";
    expect(await check(staged({ activities }), { STRIPE_KEY: "not handed down" })).toEqual({
      code: 0,
      problems: [],
      unverified: [reason],
    });
    expect(await check(staged({ activities }, { workflows: { calculate: ["triple"] } }))).toEqual({
      code: 78,
      problems: [`activity "triple": ./code/activities.mjs exports no such function; it exports double`],
      unverified: [reason],
    });
  });

  // Two of these wait for their time to be over: side by side.
  test.concurrent.each([
    ["loops at its top level", "for (;;);", /not loaded after 30 s: does a module loop/],
    [
      "waits for ever at its top level",
      "await new Promise(() => setInterval(() => {}, 1000));",
      /not loaded after 30 s/,
    ],
    ["ends the process", "process.exit(0);", /ended the process with exit code 0/],
    ["takes all memory", "const all = []; for (;;) all.push(new Array(1e6).fill({}));", /ended the process with SIG/],
    [
      "writes an answer of its own",
      `import { writeSync } from "node:fs"; writeSync(3, '{"types": 5'); process.exit(0);`,
      /ended the process with exit code 0/,
    ],
  ])("activities of which a module %s are refused with the reason", async (_, text, reason) => {
    const codeRoot = stagedAlone({ activities: `export async function double(input) { return input; }\n${text}` });
    try {
      expect(await check(codeRoot)).toMatchObject({
        code: 78,
        problems: [expect.stringMatching(reason)],
      });
    } finally {
      codeRoot.remove();
    }
  }, 180_000);

  test("workflows of which a module loops at its top level are refused with the reason", async () => {
    const codeRoot = staged({ workflows: `export async function calculate() {}\nfor (;;);`, activities: ACTIVITIES });
    expect(await check(codeRoot)).toMatchObject({
      code: 78,
      problems: [expect.stringMatching(/^workflows cannot be loaded: it is not loaded after 30 s/)],
    });
  }, 180_000);

  test("foreign code sees nothing of what the process that checks it has, and can write and start nothing", async () => {
    const outside = join(tmpdir(), `osp-test-escape-${process.pid}`);
    const look = (what: string, expression: string) =>
      `try { seen.push(${
        JSON.stringify(what)
      } + ": " + String(${expression}).slice(0, 200)); } catch (error) { seen.push(${
        JSON.stringify(what)
      } + " " + (error.code ?? error.message)); }`;
    const spy = (text: string) => `
import fs from "node:fs"; import child from "node:child_process"; import { Worker } from "node:worker_threads";
const seen = [];
${look("environment", "JSON.stringify(process.env)")}
${look("parent", "fs.readFileSync(`/proc/${process.ppid}/environ`)")}
${look("itself", "fs.readFileSync('/proc/self/environ')")}
${look("passwd", "fs.readFileSync('/etc/passwd')")}
${look("write", `fs.writeFileSync(${JSON.stringify(outside)}, "x")`)}
${look("write beside", "fs.writeFileSync(import.meta.filename + '.x', 'x')")}
${look("start", "child.execSync('id')")}
${look("thread", "new Worker('', { eval: true })")}
throw new Error("seen " + seen.join(", "));
${text}`;
    const codeRoot = staged({ activities: spy("export async function double(input) { return input; }") });
    const { unverified } = await check(codeRoot, {
      SUPABASE_SECRET_KEY: "sb_secret_of_the_checker",
      RAILWAY_API_TOKEN: "t",
    });
    const denied = ["parent", "itself", "passwd", "write", "write beside", "start", "thread"].map((what) =>
      `${what} ERR_ACCESS_DENIED`
    );
    expect(unverified).toEqual([
      `activities_path: ./code/activities.mjs cannot be loaded: seen environment: {}, ${denied.join(", ")}`,
    ]);
    expect(existsSync(outside)).toBe(false);
    expect(readdirSync(join(codeRoot.path, "code")).sort()).toEqual(["activities.mjs", "code.json"]);
  });

  test("what is bundled reads nothing that lies elsewhere, whatever its source map names", async () => {
    const outside = ownCache();
    const endless = join(outside, "endless");
    execFileSync("mkfifo", [endless]); // whoever reads it waits for ever
    const map = Buffer.from(JSON.stringify({ version: 3, sources: [endless], mappings: "AAAA" })).toString("base64");
    const workflows = `${WORKFLOWS}//# sourceMappingURL=data:application/json;base64,${map}\n`;
    const codeRoot = staged({ workflows, activities: ACTIVITIES });
    describeOtherwise(codeRoot.path, { sdk_version: `${sdkVersion}-older` });
    expect(await check(codeRoot, { OSP_CACHE_DIR: ownCache() })).toMatchObject({ code: 0, problems: [] });
  });

  test("workflows that find a way out of their sandbox are where they were looked at: in a process without rights", async () => {
    const workflows = `
const outer = URL.constructor("return process")();
const { readFileSync } = outer.getBuiltinModule("node:fs");
let told = JSON.stringify(outer.env);
try { told += readFileSync("/proc/" + outer.ppid + "/environ", "utf8"); } catch (error) { told += error.code; }
throw new Error("seen " + told);
export async function calculate() {}
`;
    const codeRoot = staged({ workflows, activities: ACTIVITIES });
    expect(await check(codeRoot, { SUPABASE_SECRET_KEY: "sb_secret_of_the_checker" })).toMatchObject({
      code: 78,
      problems: ["workflows cannot be loaded: Error: seen {}ERR_ACCESS_DENIED"],
    });
  });
});

/** As `staged`, where the test's own end does not remove it: tests side by side have none. */
function stagedAlone(modules: PushedModules): CodeRoot {
  const codeRoot = createCodeRoot({
    "manifest.json": manifestOf({
      schema: uniqueSchema(),
      workflows: { calculate: ["double"] },
      activitiesPath: "./code/activities.mjs",
      workflowsPath: "./code/workflows.mjs",
      options: { code: CODE },
    }),
  });
  pushedCode(codeRoot.path, modules);
  return codeRoot;
}
