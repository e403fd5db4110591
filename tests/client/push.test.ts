import { mkdirSync, mkdtempSync, realpathSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { execa } from "execa";
import { afterAll, beforeEach, describe, expect, test } from "vitest";
import {
  createOspClient,
  DeploymentAbortedError,
  InvalidCodeError,
  InvalidServiceError,
  TransportError,
} from "../../client/index.ts";
import { freePort } from "../../host/free-port.ts";
import { unpackArchive } from "../../host/code-archive.ts";
import { CODE_LIMITS } from "../../supabase/functions/_shared/service-code.ts";
import {
  connect,
  createCodeStore,
  createUnusedCode,
} from "../../supabase/functions/queue-worker-build/supabase-adapter.ts";
import { KEYS } from "../local/stand.ts";
import { CODE_BUCKET_SQL, download, hashed, store } from "../support/code-archive.ts";
import { useDatabase } from "../support/database.ts";
import { eventually, insertService } from "../support/services.ts";
import { useApi } from "./api.ts";

const repository = fileURLToPath(new URL("../../", import.meta.url));
const database = useDatabase();
const api = useApi(database);
const scratch = realpathSync(mkdtempSync(join(tmpdir(), "osp-test-push-")));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));
beforeEach(async () => {
  await database.rows(`truncate osp.services, osp_metadata.service_intents, osp_metadata.worker_registry cascade`);
  await database.rows(`delete from osp_metadata.service_code`);
  await database.rows(`delete from storage.objects where bucket_id = 'code'`);
  await database.rows(CODE_BUCKET_SQL);
});

let directories = 0;
/** A service's directory with these files; objects are written as JSON. */
function sources(files: Record<string, unknown>, place = `service-${directories++}`): string {
  const directory = join(scratch, place);
  for (const [name, content] of Object.entries(files)) {
    mkdirSync(dirname(join(directory, name)), { recursive: true });
    writeFileSync(join(directory, name), typeof content === "string" ? content : JSON.stringify(content));
  }
  return directory;
}
/** A package that a service has installed. */
const installed = (name: string, index: string, more: Record<string, string> = {}) =>
  Object.fromEntries(
    Object.entries({ "package.json": `{"name": "${name}", "main": "index.js"}`, "index.js": index, ...more })
      .map(([file, text]) => [`node_modules/${name}/${file}`, text]),
  );

const push = (directory: string, options: Parameters<typeof api.client.pushServiceCode>[2] = {}) =>
  api.client.pushServiceCode("s", directory, options);
async function problemsOf(directory: string): Promise<readonly string[]> {
  const error: unknown = await push(directory).catch((thrown: unknown) => thrown);
  if (!(error instanceof InvalidCodeError)) throw error;
  expect(await stored()).toEqual([]);
  return error.problems;
}
const stored = async () =>
  (await database.rows<{ name: string }>(
    `select name from storage.objects where bucket_id = 'code' and name like 's/%' order by name`,
  ))
    .map(({ name }) => name);

const WORKFLOW = `
import { proxyActivities } from "@temporalio/workflow";
const { first } = proxyActivities({ startToCloseTimeout: "1 minute" });
export async function doWork(input) { return await first(input); }
`;
const ACTIVITY = `export async function first(input) { return input; }\n`;

describe("refused, with every problem and by name, and nothing is stored", () => {
  test("types, packages and modules that cannot be bundled", async () => {
    const directory = sources({
      "workflows.ts": `
import { readFileSync } from "node:fs";
import { createHash } from "crypto";
import { Context } from "@temporalio/activity";
export async function doWork(input: number): Promise<string> { return input; }
export const used = [readFileSync, createHash, Context];
`,
      "src/activities.ts": `
import "computes"; import "native"; import "absent"; import "@temporalio/testing";
export async function first(): Promise<void> { await import(process.env["PLUGIN"] ?? ""); }
`,
      ...installed("computes", "module.exports = (name) => require(name);"),
      ...installed("native", `module.exports = require("./build/addon.node");`, { "build/addon.node": "\u007fELF" }),
    });
    const problems = await problemsOf(directory);
    expect(problems.toSorted()).toEqual([
      expect.stringMatching(
        /^node_modules\/computes\/index\.js:1: loads a module whose name it computes, which cannot be bundled$/,
      ),
      expect.stringMatching(
        /^node_modules\/native\/index\.js:1: imports node_modules\/native\/build\/addon\.node, a native addon/,
      ),
      expect.stringMatching(/^src\/activities\.ts\(2,\d+\): error TS2882: .*'absent'/),
      expect.stringMatching(/^src\/activities\.ts:2: imports "absent", which is not there: install it/),
      expect.stringMatching(/^src\/activities\.ts:2: imports @temporalio\/testing, which no worker has/),
      expect.stringMatching(/^src\/activities\.ts:3: loads a module whose name it computes/),
      expect.stringMatching(/^workflows\.ts\(5,\d+\): error TS2322: Type 'number' is not assignable to type 'string'/),
      expect.stringMatching(/^workflows\.ts:2: imports node:fs, which workflows cannot use/),
      expect.stringMatching(/^workflows\.ts:3: imports crypto, which workflows cannot use/),
      expect.stringMatching(/^workflows\.ts:4: imports @temporalio\/activity, which workflows cannot use/),
    ]);
  });

  test("names that the row gives and the code lacks, beside what its types say", async () => {
    await insertService(database, "s", {
      workflows: [{ name: "doWork", activities: ["first", "second"] }, { name: "undo", activities: ["first"] }],
    });
    const directory = sources({
      "workflows.js": WORKFLOW,
      "activities.ts":
        `export async function first(): Promise<string> { return 5; }\nexport const second = "no function";\n`,
    });
    expect(await problemsOf(directory)).toEqual([
      expect.stringMatching(/^activities\.ts\(1,\d+\): error TS2322/),
      `activity "second": ./code/activities.mjs exports a string under this name, not a function`,
      `workflow "undo": ./code/workflows.mjs exports no such function; it exports doWork`,
    ]);
  });

  test("a row that is refused itself", async () => {
    await insertService(database, "s", { options: { colour: "red" } });
    expect(await problemsOf(sources({ "activities.js": ACTIVITY }))).toEqual([
      expect.stringMatching(/^Service "s" is not valid: options: .*"colour"/),
    ]);
  });

  test.each<[string, Record<string, unknown>, RegExp[]]>([
    ["no module", { "readme.md": "" }, [/neither a module of workflows nor one of activities/]],
    [
      "two modules of one kind",
      { "workflows.ts": "", "src/workflows.js": "", "activities.js": ACTIVITY },
      [/^there are workflows\.ts and src\/workflows\.js: name one in package\.json/],
    ],
    [
      "modules that package.json names and that are not there",
      { "package.json": { osp: { workflows: "./flows.ts", activities: "../x.ts" } } },
      [/osp\.workflows: there is no file \.\/flows\.ts/, /osp\.activities: there is no file \.\.\/x\.ts/],
    ],
    ["a module that is none", { "package.json": { osp: { activities: "./a.py" } }, "a.py": "" }, [
      /no module of JavaScript or TypeScript/,
    ]],
    ["settings that there are not", { "package.json": { osp: { external: ["x"] } } }, [
      /^package\.json: osp: .*"external"/,
    ]],
    ["a package.json that is none", { "package.json": "{" }, [/^package\.json: SyntaxError/]],
    ["CommonJS", { "activities.js": "exports.first = async () => {};" }, [/^activities\.js exports nothing by name/]],
    ["a default export alone", { "activities.js": "export default async () => {};" }, [/exports nothing by name/]],
    ["what is no JavaScript", { "activities.js": "export async function first( {" }, [/^activities\.js:1: Expected/]],
    [
      "a workflow that throws when it is loaded",
      { "workflows.js": `${WORKFLOW}\nthrow new Error("no licence");` },
      [/^workflows cannot be loaded: Error: no licence$/],
    ],
    [
      "an activity that ends whatever loads it",
      { "activities.js": `${ACTIVITY}\nprocess.exit(3);` },
      [/^activities cannot be loaded: loading it ended the process with exit code 3/],
    ],
  ])("%s", async (_, files, told) => {
    expect(await problemsOf(sources(files))).toEqual(told.map((problem) => expect.stringMatching(problem)));
  });

  test("a directory that is not there", async () => {
    expect(await problemsOf(join(scratch, "nowhere"))).toEqual(["there is no such directory"]);
  });

  test("Temporal's packages in another version than workers have", async () => {
    const directory = sources({
      "activities.js": ACTIVITY,
      "node_modules/@temporalio/activity/package.json": { name: "@temporalio/activity", version: "1.9.3" },
    });
    expect(await problemsOf(directory)).toEqual([
      expect.stringMatching(
        /^@temporalio\/activity 1\.9\.3 is installed for it, and workers have \d+\.\d+\.\d+: npm install/,
      ),
    ]);
  });

  test("code that is too large: with its largest parts", async () => {
    const text = JSON.stringify("x".repeat(35_000_000));
    const directory = sources({
      "activities.js":
        `import one from "large"; import { two } from "./two.js";\nexport async function first() { return [one, two]; }\n`,
      "two.js": `export const two = ${text};`,
      ...installed("large", `module.exports = ${text};`),
    });
    expect(await problemsOf(directory)).toEqual([
      expect.stringMatching(
        /^it has \d+\.\d MiB, .*; there may be 64\.0 MiB, 20\.0 MiB packed\. Its largest parts: (node_modules\/large|two\.js): 35\.0 MB, /,
      ),
    ]);
  });

  test("a service that cannot be, and one without a row whose code is to be set", async () => {
    const directory = sources({ "activities.js": ACTIVITY });
    const error = api.client.pushServiceCode("No Service", directory);
    await expect(error).rejects.toThrow(InvalidServiceError);
    await expect(push(directory, { set: true })).rejects.toThrow(/osp\.services has no row "s"/);
    expect(await stored()).toEqual([]);
  });
});

describe("pushed", () => {
  test("JavaScript as it is, one module or both; what it prints inserts a row with every name", async () => {
    const both = await push(sources({ "src/workflows.mjs": WORKFLOW, "activities/index.js": ACTIVITY }));
    expect(both).toMatchObject({ is_new: true, workflows: ["doWork"], activities: ["first"], notes: [] });
    expect(both.sql).toBe(
      "insert into osp.services (service_schema, service_name, workflows, options)\n" +
        `values ('s', 's', '[{"name":"doWork","activities":["first"]}]', '{"code":"${both.code}"}');`,
    );
    await database.rows(both.sql);
    const activities = await push(sources({ "activities.js": ACTIVITY }));
    expect(activities).toMatchObject({ workflows: undefined, activities: ["first"] });
    expect(activities.sql).toBe(`select * from osp.set_code('s', '${activities.code}');`);
    const workflows = await push(sources({ "workflows.js": WORKFLOW }));
    expect(workflows).toMatchObject({ workflows: ["doWork"], activities: undefined });
    expect(await stored()).toEqual([both, activities, workflows].map(({ code }) => `s/${code}.tar.gz`).toSorted());
    expect(await database.rows(`select code, bytes, pushed_by from osp_metadata.service_code order by pushed_at`))
      .toEqual(
        [both, activities, workflows].map(({ code, bytes }) => ({ code, bytes, pushed_by: "service_role" })),
      );
  });

  test("the same sources are the same bytes, wherever they lie and however often; a change is another code", async () => {
    const files = {
      "workflows.ts": WORKFLOW.replace("(input)", "(input: string)"),
      "activities.ts":
        `import { answer } from "answers";\nexport async function first(): Promise<number> { return answer; }\n`,
      ...installed("answers", "exports.answer = 42;", { "index.d.ts": "export const answer: number;" }),
    };
    const one = sources(files, "here");
    const codes = [await push(one), await push(sources(files, "somewhere/deeper/there")), await push(one)];
    expect(codes.map(({ is_new }) => is_new)).toEqual([true, false, false]);
    expect(new Set(codes.map(({ code }) => code)).size).toBe(1);
    writeFileSync(join(one, "node_modules/answers/index.js"), "exports.answer = 43;");
    expect((await push(one)).code).not.toBe(codes[0]?.code);
  });

  test("dependencies are part of it, CommonJS too; Temporal's packages and Node's are not", async () => {
    const { code } = await push(sources({
      "activities.js": `
import { Context } from "@temporalio/activity";
import both from "both";
import { readFileSync } from "node:fs";
export async function first() { return [both(), Context, readFileSync]; }
export async function second() { return __dirname; }
`,
      ...installed(
        "both",
        `const path = require("path"); try { require("optional"); } catch {} module.exports = () => path.sep;`,
      ),
    }));
    const files = unpackArchive(await download(api.url, "s", code), CODE_LIMITS);
    expect([...files.keys()]).toEqual(["activities.mjs", "code.json"]);
    const text = files.get("activities.mjs")?.toString() ?? "";
    expect(text).toContain(`from "@temporalio/activity"`);
    expect(text).toContain("path.sep");
    expect(JSON.parse(files.get("code.json")?.toString() ?? "")).toMatchObject({
      format: 1,
      activities: ["first", "second"],
    });
  });

  test("what a package imports and never uses can be left out by name", async () => {
    const { code } = await push(sources({
      "package.json": { osp: { ignoreModules: ["mysql", "pg-native"] } },
      "activities.js": `import { client } from "knexish";\nexport async function first() { return client("pg"); }\n`,
      ...installed("knexish", `exports.client = (name) => name === "pg" ? "pg" : require("mysql");`),
    }));
    expect(unpackArchive(await download(api.url, "s", code), CODE_LIMITS).get("activities.mjs")?.toString()).toContain(
      "Cannot find module 'mysql': osp.ignoreModules of package.json left it out",
    );
  });

  test("what can only be known where it runs is a note: it is loaded without any environment", async () => {
    const directory = sources({
      "activities.js": `
import { readFileSync } from "node:fs";
export async function first() { return readFileSync(new URL("./template.txt", import.meta.url)); }
throw new Error("environment: " + JSON.stringify(process.env));
`,
    });
    expect(await push(directory)).toMatchObject({
      activities: ["first"],
      notes: [
        "activities.js asks where it lies: files beside it are not part of the code",
        "activities cannot be loaded: environment: {}",
      ],
    });
  });

  test("a tsconfig.json of the service's own counts", async () => {
    const files = { "activities.ts": "export async function first(input) { return input; }\n" };
    expect(await problemsOf(sources(files))).toEqual([expect.stringMatching(/TS7006/)]);
    const broken = { ...files, "tsconfig.json": { compilerOptions: { target: "es1" } } };
    expect(await problemsOf(sources(broken))).toEqual([
      expect.stringMatching(/TS7006/),
      expect.stringMatching(/^tsconfig\.json\(1,\d+\): error TS6046: Argument for '--target' option/),
    ]);
    const loose = {
      ...files,
      "tsconfig.json": { compilerOptions: { noImplicitAny: false, noEmit: false, outDir: "dist", skipLibCheck: true } },
    };
    expect(await push(sources(loose))).toMatchObject({ activities: ["first"] });
  });

  test("types of Node's, and those that a tsconfig.json names, are found as they are where it lies", async () => {
    const directory = sources({
      "tsconfig.json": { compilerOptions: { strict: true, module: "preserve", types: ["node", "greeting"] } },
      "activities.ts": "export async function first() { return hello(process.pid); }\n",
      ...installed("@types/node", "", { "index.d.ts": "declare const process: { pid: number };" }),
      ...installed("@types/greeting", "", { "index.d.ts": "declare function hello(pid: number): string;" }),
    });
    expect(await push(directory)).toMatchObject({ activities: ["first"], notes: [] });
  });
});

describe("what is in Storage already", () => {
  const directory = () => sources({ "activities.js": ACTIVITY });

  test("under that name, and is something else, is told", async () => {
    const { code } = await push(directory());
    await store(api.url, "s", { code, archive: hashed(Buffer.from("something else")).archive });
    await expect(push(directory())).rejects.toThrow(
      new RegExp(
        `Cannot store s/${code}\\.tar\\.gz: the bucket has an object of that name whose SHA-256 is [0-9a-f]{64}`,
      ),
    );
  });

  test("and is just being removed, is stored again when that is over", async () => {
    const { code } = await push(directory());
    await database.rows(`update osp_metadata.service_code set pushed_at = pushed_at - interval '31 days'`);
    await database.rows(`select osp_metadata.take_unused_code()`);
    const pushed = push(directory());
    // It has found it leaving at least once when the removal goes on.
    await database.rows(`update osp_metadata.service_code set missing_since = now()`);
    await eventually(
      () => database.rows(`select from osp_metadata.service_code where missing_since is null`),
      (rows) => rows.length === 1,
    );
    await database.rows(`update osp_metadata.service_code set lease_expires_at = now()`);
    const client = connect(api.url, KEYS.SECRET_KEY);
    const [object] = await createUnusedCode(client).take();
    if (object === undefined) throw new Error("Nothing was to be removed");
    await createCodeStore(client).remove([object.path]);
    expect(await createUnusedCode(client).forget([object])).toBe(1);
    expect(await pushed).toMatchObject({ code });
    expect(await download(api.url, "s", code)).toBeInstanceOf(Buffer);
    expect(await database.rows(`select osp_metadata.count_unused_code() as count`)).toEqual([{ count: 0 }]);
  });
});

describe("set", () => {
  test("names it in the row, which is a revision; again it is none", async () => {
    await insertService(database, "s", { workflows: [{ name: "doWork", activities: ["first"] }] });
    const directory = sources({ "activities.js": ACTIVITY });
    const pushed = await push(directory, { set: true });
    expect(pushed.deployment).toMatchObject({ revision: 2, deployment_status: "requested" });
    expect(await database.rows(`select options from osp.services`)).toEqual([{ options: { code: pushed.code } }]);
    expect((await push(directory, { set: true })).deployment).toEqual(pushed.deployment);
  });
});

describe("nothing is pushed", () => {
  const directory = () => sources({ "activities.js": ACTIVITY });

  test("to an API that is away, or that refuses the key", async () => {
    const url = `http://127.0.0.1:${await freePort()}`;
    const away = createOspClient({ url, secretKey: KEYS.SECRET_KEY }).pushServiceCode("s", directory(), {
      timeoutMs: 2000,
    });
    await expect(away).rejects.toMatchObject({ name: expect.stringMatching(/TransportError|DeploymentTimeoutError/) });
    const stranger = createOspClient({ url: api.url, secretKey: KEYS.PUBLISHABLE_KEY }).pushServiceCode(
      "s",
      directory(),
    );
    await expect(stranger).rejects.toThrow(TransportError);
  });

  test("without its bucket, which is told", async () => {
    await database.rows(`delete from storage.objects where bucket_id = 'code'`);
    await database.rows(`delete from storage.buckets where id = 'code'`);
    await expect(push(directory())).rejects.toThrow(/Storage has no bucket "code": apply the migrations/);
    expect(await database.rows(`select * from osp_metadata.service_code`)).toEqual([]);
  });

  test("when the caller has given up", async () => {
    await expect(push(directory(), { signal: AbortSignal.abort() })).rejects.toThrow(DeploymentAbortedError);
    const abort = new AbortController();
    const pushing = push(sources({ "activities.js": `${ACTIVITY}\nfor (;;);` }), { signal: abort.signal });
    abort.abort();
    await expect(pushing).rejects.toThrow(DeploymentAbortedError);
    expect(await stored()).toEqual([]);
  });
});

describe("the command", () => {
  const osp = (args: string[], environment: Record<string, string> = {}) =>
    execa(process.execPath, [join(repository, "client", "osp.ts"), ...args], {
      env: { PATH: process.env["PATH"] ?? "", OSP_STATE_DIR: join(scratch, "no-stack"), ...environment },
      cwd: scratch,
      extendEnv: false,
      reject: false,
    });

  test.each([
    [[]],
    [["code"]],
    [["code", "pull", "s", "."]],
    [["code", "push", "s"]],
    [["code", "push", "s", ".", "x"]],
    [["--no"]],
  ])(
    "%j ends with 64 and how it is used",
    async (args) => {
      const { exitCode, stderr, stdout } = await osp(args);
      expect({ exitCode, stdout }).toEqual({ exitCode: 64, stdout: "" });
      expect(stderr).toMatch(/^Usage: osp code push <service_schema> <directory>/);
    },
  );

  test("--help tells it", async () => {
    expect(await osp(["--help"])).toMatchObject({ exitCode: 0, stdout: expect.stringMatching(/^Usage: /) });
  });

  test("says where to set what is not set, and never the key", async () => {
    expect(await osp(["code", "push", "s", "."])).toMatchObject({
      exitCode: 1,
      stderr:
        "Cannot tell where to push: set SUPABASE_URL and SUPABASE_SECRET_KEY, or start a stack here by `npm start`",
    });
    expect(await osp(["code", "push", "s", "."], { SUPABASE_SECRET_KEY: "sb_secret_x" })).toMatchObject({
      exitCode: 1,
      stderr: "Cannot tell where to push: SUPABASE_URL: must be an http or https URL",
    });
    expect(await osp(["code", "push", "s", "."], { SUPABASE_URL: api.url })).toMatchObject({
      exitCode: 1,
      stderr: "Cannot tell where to push: SUPABASE_SECRET_KEY: is not set: a secret key of the project",
    });
  });

  test("takes a directory as the caller sees it, also through npm", async () => {
    sources({ "activities.js": ACTIVITY }, "mine/service");
    const environment = { API_URL: api.url, SECRET_KEY: KEYS.SECRET_KEY };
    const direct = await osp(["code", "push", "s", "mine/service"], environment);
    expect(direct, direct.stderr).toMatchObject({
      exitCode: 0,
      stdout: expect.stringContaining("activities: first\nstored: code/s/"),
    });
    const throughNpm = await osp(["code", "push", "s", "service"], {
      ...environment,
      ...{ INIT_CWD: join(scratch, "mine"), npm_package_json: join(repository, "package.json") },
    });
    expect(throughNpm.stdout).toContain("was stored already: code/s/");
    // A service's own script, called somewhere below its package: npm runs it in the package's directory.
    const ofService = await osp(["code", "push", "s", "mine/service"], {
      ...environment,
      ...{ INIT_CWD: join(scratch, "mine", "service"), npm_package_json: join(scratch, "package.json") },
    });
    expect(ofService.stdout, ofService.stderr).toContain("was stored already: code/s/");
  });

  test("lists every problem, a line each, none of which acts on a terminal", async () => {
    sources({
      "activities.js": `${ACTIVITY}throw new Error("\u001b[2J"); process.exit(1);`,
      "workflows.js": "export const \u001b",
    }, "bad");
    const { exitCode, stdout, stderr } = await osp(["code", "push", "s", "bad"], {
      API_URL: api.url,
      SECRET_KEY: KEYS.SECRET_KEY,
    });
    expect({ exitCode, stdout }).toEqual({ exitCode: 1, stdout: "" });
    expect(stderr).toMatch(/^Nothing was pushed: 1 problem\n {2}workflows\.js:1: /);
    expect(stderr).not.toContain("\u001b");
  });
});
