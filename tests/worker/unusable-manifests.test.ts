import { symlinkSync } from "node:fs";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { cacheDirectory } from "../../host/cache-directory.ts";
import { manifestOf } from "./support/manifests.ts";
import { type CodeRoot, createCodeRoot, startWorker } from "./support/worker-process.ts";

const ENDPOINT = { activity_endpoint: "http://127.0.0.1:9/{activity}" };
const USABLE = manifestOf({ schema: "demo", workflows: { processBilling: ["calculateCharges"] }, options: ENDPOINT });

test("--check of a usable manifest exits 0 without Temporal", async () => {
  expect(await check(codeRootWith({ "manifest.json": USABLE }))).toEqual({ code: 0, problems: [] });
});

test("--check takes the manifest's name in place of MANIFEST_PATH", async () => {
  const codeRoot = codeRootWith({ "manifests/demo.json": USABLE, "manifest.json": "{" });
  expect(await check(codeRoot, {}, ["--check", "manifests/demo.json"])).toEqual({ code: 0, problems: [] });
  expect(await check(codeRoot, { MANIFEST_PATH: "" }, ["--check", "manifests/demo.json"])).toMatchObject({ code: 0 });
  expect(await check(codeRoot, {}, ["--check", "manifests/none.json"])).toEqual({
    code: 78,
    problems: [expect.stringMatching(/^manifest: there is no file "manifests\/none\.json" in the code root/)],
  });
});

test.each(["SIGTERM", "SIGINT"] as const)("--check that gets %s does not say that all is right", async (signal) => {
  const codeRoot = codeRootWith({ "manifest.json": USABLE });
  const environment = { MANIFEST_PATH: "manifest.json", OSP_CACHE_DIR: join(codeRoot.path, "cache") };
  const worker = startWorker(codeRoot.path, environment, ["--check"]);
  await worker.event("worker.starting"); // bundling is still to come
  worker.child.kill(signal);
  expect(await worker.exit()).toMatchObject({
    code: 70,
    last: { event: "worker.exit", code: 70, problems: [`${signal} came: stopped before it was checked`] },
  });
});

test.each([[["--chekc"]], [["manifest.json"]], [["--check", "manifest.json", "another.json"]]])(
  "arguments that it does not know are refused: %j",
  async (args) => {
    expect(await check(codeRootWith({ "manifest.json": USABLE }), {}, args)).toEqual({
      code: 78,
      problems: [`arguments "${args.join(" ")}": there is --check [manifest], which only validates`],
    });
  },
);

test("faults of the environment and of the manifest stand in one message", async () => {
  const manifest = { ...USABLE, service_schema: "Bad Name", extra: 1 };
  const { code, problems } = await check(codeRootWith({ "manifest.json": manifest }), { PORT: "http" });
  expect(code).toBe(78);
  expect(problems).toEqual([
    expect.stringContaining("environment variable PORT: "),
    expect.stringContaining(`service_schema: "Bad Name" must match`),
    expect.stringContaining("extra"),
  ]);
});

test("every fault of a manifest stands in one message", async () => {
  const manifest = { ...USABLE, service_schema: "Bad Name", activities_path: "../outside.ts", extra: 1 };
  const { code, problems } = await check(codeRootWith({ "manifest.json": manifest }));
  expect(code).toBe(78);
  expect(problems).toEqual([
    expect.stringContaining(`service_schema: "Bad Name" must match`),
    expect.stringContaining("activities_path: "),
    expect.stringContaining("extra"),
  ]);
});

test("every module, export and name that is missing stands in one message", async () => {
  const files = {
    "activities.js": `exports.calculateCharges = async () => {}; exports.rate = 7;`,
    "workflows.js": `exports.processBilling = async () => {}; exports.limit = 3;`,
    "manifest.json": {
      ...manifestOf({ schema: "demo", workflows: {}, activitiesPath: "activities.js" }),
      workflows: [
        workflow("processBilling", "workflows.js", ["calculateCharges", "sendInvoice"]),
        workflow("procesBilling", "workflows.js", ["rate"]),
        workflow("limit", "workflows.js", ["calculateCharges"]),
        workflow("closeBooks", "missing.js", ["calculateCharges"]),
      ],
    },
  };
  const { code, problems } = await check(codeRootWith(files));
  expect(code).toBe(78);
  expect(problems).toEqual([
    expect.stringMatching(/^workflows\[3\]\.workflows_path: there is no file "missing\.js" in the code root /),
    `activity "sendInvoice": activities.js exports no such function; it exports calculateCharges`,
    `activity "rate": activities.js exports a number under this name, not a function`,
    `workflow "procesBilling": workflows.js exports no such function; it exports processBilling`,
    `workflow "limit": workflows.js exports a number under this name, not a function`,
  ]);
}, 30_000);

test.each([
  ["imports what is not there", `import "./gone.js"; export async function processBilling() {}`, /gone\.js/],
  ["is no JavaScript", `export async function processBilling( {`, /cannot be bundled: .*workflows\.mjs/],
  ["imports Node", `import "node:fs"; export async function processBilling() {}`, /node:fs/],
  [
    "throws when it is loaded",
    `throw new Error("no licence"); export async function processBilling() {}`,
    /no licence/,
  ],
])("a workflows module that %s is told with its reason", async (_, text, reason) => {
  const files = {
    "workflows.mjs": text,
    "manifest.json": {
      ...USABLE,
      workflows: [workflow("processBilling", "workflows.mjs", ["calculateCharges"])],
    },
  };
  expect(await check(codeRootWith(files))).toEqual({ code: 78, problems: [expect.stringMatching(reason)] });
}, 30_000);

test("an activities module that cannot be loaded is told with its reason", async () => {
  const files = { "a.mjs": `import "left-pad-of-nobody";`, "manifest.json": { ...USABLE, activities_path: "a.mjs" } };
  expect(await check(codeRootWith(files))).toEqual({
    code: 78,
    problems: [expect.stringMatching(/^activities_path: a\.mjs cannot be loaded: .*left-pad-of-nobody/)],
  });
});

test("paths must not leave the code root through a symlink", async () => {
  const outside = codeRootWith({ "secret.js": `exports.calculateCharges = async () => {};` });
  const codeRoot = codeRootWith({ "manifest.json": { ...USABLE, activities_path: "link/secret.js" } });
  symlinkSync(outside.path, join(codeRoot.path, "link"));
  expect(await check(codeRoot)).toEqual({
    code: 78,
    problems: [expect.stringMatching(/^activities_path: "link\/secret\.js" leads out of the code root/)],
  });
});

test("the built-in activities need an endpoint", async () => {
  const manifest = manifestOf({ schema: "demo", workflows: { processBilling: ["calculateCharges"] } });
  expect(await check(codeRootWith({ "manifest.json": manifest }))).toEqual({
    code: 78,
    problems: [expect.stringMatching(/^options\.activity_endpoint: missing/)],
  });
});

test.each([
  ["missing", {}, /^manifest: there is no file "manifest\.json" in the code root/],
  ["no JSON", { "manifest.json": "{" }, /^manifest manifest\.json is not JSON: /],
])("a manifest that is %s is told", async (_, files, problem) => {
  expect(await check(codeRootWith(files))).toEqual({ code: 78, problems: [expect.stringMatching(problem)] });
});

test("every bad environment variable stands in one message", async () => {
  const environment = {
    PORT: "http",
    OSP_DRAIN_SECONDS: "soon",
    TEMPORAL_TLS: "yes",
    TEMPORAL_CONFIG_FILE: "/nowhere.toml",
  };
  const { code, problems } = await check(codeRootWith({}), { ...environment, MANIFEST_PATH: " " });
  expect(code).toBe(78);
  expect(problems).toEqual(
    ["MANIFEST_PATH", "PORT", "OSP_DRAIN_SECONDS", "TEMPORAL_TLS", "TEMPORAL_CONFIG_FILE"].map((name) =>
      expect.stringContaining(`environment variable ${name}: `)
    ),
  );
});

function workflow(name: string, workflows_path: string, activities: string[]) {
  return { name, task_queue: "demo-tasks", workflows_path, activities };
}

function codeRootWith(files: Record<string, unknown>): CodeRoot {
  const codeRoot = createCodeRoot(files);
  onTestFinished(() => codeRoot.remove());
  return codeRoot;
}

async function check(codeRoot: CodeRoot, environment: Record<string, string> = {}, args = ["--check"]) {
  const base = { MANIFEST_PATH: "manifest.json", OSP_CACHE_DIR: cacheDirectory(process.env) };
  const worker = startWorker(codeRoot.path, { ...base, ...environment }, args);
  const { code, last } = await worker.exit();
  expect(worker.otherOutput).toEqual([]);
  expect(last).toMatchObject({ event: "worker.exit", code });
  return { code, problems: last?.["problems"] };
}
