import { mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, inject, test } from "vitest";
import { type FakeRailway, startFakeRailway } from "../../local/railway/fake-railway.ts";
import { type Trouble, troubles } from "../../local/railway/faults.ts";
import { writeStubCli } from "../../local/railway/stub-cli.ts";
import { createRunCli, type RunCli, type RunOptions } from "../support/railway/cli.ts";
import { uploadDirectory } from "../support/railway/upload-directory.ts";
import { scratchDirectory } from "../support/railway/scratch.ts";

/** One CLI and a stand-in of its own. */
interface Side {
  fake: FakeRailway;
  run: RunCli;
  serviceId: string;
  /** Never settles until the end. */
  never: PromiseWithResolvers<void>;
}

let sides: Side[] = [];

beforeAll(async () => {
  const stub = writeStubCli(scratchDirectory(), process.env);
  sides = await Promise.all([inject("railwayCli"), stub].map(async (binary) => {
    const fake = await startFakeRailway({ cliSchema: inject("railwaySchema") ?? undefined, maxUploadBytes: 4000 });
    const serviceId = fake.operator.createService("pdf").id;
    return { fake, run: createRunCli(binary, fake), serviceId, never: Promise.withResolvers<void>() };
  }));
});

afterAll(async () => {
  for (const { fake, never } of sides) {
    never.resolve();
    await fake.stop();
  }
});

const directory = uploadDirectory();
const create = "mutation Create($i: ServiceCreateInput!) { serviceCreate(input: $i) { name } }";
const ask = "query Ask($id: String!) { deployment(id: $id) { id status } }";
const target = ({ fake }: Side) => ["-p", fake.project.id, "-e", fake.production.id];
const api = (...args: string[]) => () => ["api", ...args];
const up = (...args: string[]) => ["up", directory, "--path-as-root", "--detach", "--json", ...args];
const upload = (side: Side) => up(...target(side), "-s", side.serviceId);
const environment = (given: Record<string, string | undefined>) => () => ({ environment: given });

interface Case {
  args: (side: Side) => string[];
  options?: (side: Side) => RunOptions;
  trouble?: (side: Side) => [on: string, Trouble];
}

const cases: Record<string, Case> = {
  "--version": { args: () => ["--version"] },
  "an unknown option": { args: () => ["--nope"] },
  "api: a query": { args: api("{ apiToken { workspaces { name } } }", "--compact") },
  "api: printed for people": { args: api("{ apiToken { workspaces { name } } }") },
  "api: a mutation, variables on stdin": {
    args: api(create, "--operation-name", "Create", "--variables", "@-", "--compact"),
    options: ({ fake }) => ({
      input: JSON.stringify({ i: { projectId: fake.project.id, name: "mäil", variables: {} } }),
    }),
  },
  "api: a refusal": { args: api(ask, "--raw-var", "id=nobody", "--compact") },
  "api: a refusal that is allowed": { args: api(ask, "--raw-var", "id=nobody", "--compact", "--allow-errors") },
  "api: an ill-typed variable": { args: api(ask, "--var", 'id={"a":1}', "--compact") },
  "api: a missing variable": { args: api(ask, "--compact") },
  "api: an unknown field": { args: api("{ nope }", "--compact") },
  "api: an operation that is not there": { args: api(ask, "--operation-name", "Other", "--compact") },
  "api: stdin that is no JSON": { args: api(ask, "--variables", "@-"), options: () => ({ input: "no" }) },
  "api: variables that are no object": { args: api(ask, "--variables", "[1]") },
  "api: a variable without a value": { args: api(ask, "--raw-var", "id") },
  "api: an unknown option ": { args: api(ask, "--nope") },
  "api: a value too few": { args: api(ask, "--variables") },
  "api: a second query": { args: api(ask, ask) },
  "api: no token": { args: api(ask), options: environment({ RAILWAY_API_TOKEN: undefined }) },
  "api: an empty token": { args: api(ask, "--var", "id=1"), options: environment({ RAILWAY_API_TOKEN: "" }) },
  "api: an empty project token beside a good one": {
    args: api(ask, "--raw-var", "id=1"),
    options: environment({ RAILWAY_TOKEN: "" }),
  },
  "api: a newline in the token": { args: api(ask), options: environment({ RAILWAY_API_TOKEN: "a\nb" }) },
  "api: 429": { args: api(ask, "--raw-var", "id=1"), trouble: () => ["*", troubles.rateLimited(3)] },
  "api: 500": { args: api(ask, "--raw-var", "id=1"), trouble: () => ["*", troubles.serverError()] },
  "api: HTML": { args: api(ask, "--raw-var", "id=1"), trouble: () => ["*", troubles.htmlPage()] },
  "api: a throttle": { args: api(ask, "--raw-var", "id=1"), trouble: () => ["*", troubles.throttled()] },
  "api: a cut connection": { args: api(ask, "--raw-var", "id=1"), trouble: () => ["*", troubles.cutBefore()] },
  "api: no answer": {
    args: api("{ apiToken { workspaces { name } } }"),
    options: environment({ RAILWAY_HTTP_TIMEOUT: "3" }),
    trouble: ({ never }) => ["*", troubles.late(never.promise)],
  },
  "api: no proxy there": { args: api(ask), options: environment({ HTTPS_PROXY: "http://127.0.0.1:9" }) },
  "api: an authority that nobody knows": { args: api(ask), options: environment({ SSL_CERT_FILE: undefined }) },
  "api: telemetry": {
    args: api("{ apiToken { workspaces { name } } }"),
    options: environment({ RAILWAY_NO_TELEMETRY: "yes" }),
  },
  "up": { args: upload },
  "up: with a message, flags in another way": {
    args: (side) => [
      ...["up", "--json", "--no-wait", "--no-gitignore", "--path-as-root", `--project=${side.fake.project.id}`],
      ...[`-e${side.fake.production.id}`, "-s=pdf", "-m", "a b&c\nd", directory],
    ],
  },
  "up: an unknown option": { args: (side) => [...upload(side), "--nope"] },
  "up: an option twice": { args: (side) => [...upload(side), "-s", "x"] },
  "up: a flag twice": { args: (side) => [...upload(side), "--detach"] },
  "up: a value for a flag": { args: (side) => [...upload(side).filter((each) => each !== "--detach"), "--detach=1"] },
  "up: a value too few": { args: (side) => [...up(...target(side)), "-s"] },
  "up: an option as a value": { args: (side) => [...up(...target(side)), "-s", "-x"] },
  "up: a second directory": { args: (side) => [...upload(side), directory] },
  "up: no directory": { args: (side) => upload(side).filter((each) => each !== directory) },
  "up: a directory that is not there": {
    args: (side) => upload(side).map((each) => each === directory ? join(directory, "missing") : each),
  },
  "up: no token": { args: upload, options: environment({ RAILWAY_API_TOKEN: undefined }) },
  "up: a newline in the token": { args: upload, options: environment({ RAILWAY_API_TOKEN: "a\nb" }) },
  "up: a workspace token as a project token": {
    args: upload,
    options: ({ fake }) => ({ environment: { RAILWAY_TOKEN: fake.tokens.workspace } }),
  },
  "up: a project token as a workspace token": {
    args: upload,
    options: ({ fake }) => ({ environment: { RAILWAY_API_TOKEN: fake.tokens.project } }),
  },
  "up: a project token names the project": {
    args: () => up("-s", "pdf"),
    options: ({ fake }) => ({ environment: { RAILWAY_TOKEN: fake.tokens.project } }),
  },
  "up: no project": { args: () => up() },
  "up: an inherited project": {
    args: () => up(),
    options: ({ fake, serviceId }) => ({
      environment: {
        RAILWAY_PROJECT_ID: fake.project.id,
        RAILWAY_ENVIRONMENT_ID: fake.production.id,
        RAILWAY_SERVICE_ID: serviceId,
      },
    }),
  },
  "up: an inherited project without an environment": {
    args: () => up("-s", "pdf"),
    options: ({ fake }) => ({ environment: { RAILWAY_PROJECT_ID: fake.project.id } }),
  },
  "up: an inherited environment without a project": {
    args: () => up("-s", "pdf"),
    options: environment({ RAILWAY_ENVIRONMENT_ID: "e" }),
  },
  "up: an inherited project that is empty": {
    args: () => up("-s", "pdf"),
    options: environment({ RAILWAY_PROJECT_ID: "" }),
  },
  "up: a project without an environment": { args: ({ fake }) => up("-p", fake.project.id, "-s", "pdf") },
  "up: an unknown project": { args: ({ fake }) => up("-p", "nope", "-e", fake.production.id, "-s", "pdf") },
  "up: an unknown environment": { args: ({ fake }) => up("-p", fake.project.id, "-e", "nope", "-s", "pdf") },
  "up: an unknown service": { args: (side) => up(...target(side), "-s", "nope") },
  "up: no service": { args: (side) => up(...target(side)) },
  "up: 429 before the upload": { args: upload, trouble: () => ["Project", troubles.rateLimited(3)] },
  "up: 429 for minutes": { args: upload, trouble: () => ["Project", troubles.rateLimited(200)] },
  "up: 500 before the upload": { args: upload, trouble: () => ["Project", troubles.serverError("Boom")] },
  "up: HTML before the upload": { args: upload, trouble: () => ["Project", troubles.htmlPage()] },
  "up: cut before the upload": { args: upload, trouble: () => ["Project", troubles.cutBefore()] },
  "up: 429": { args: upload, trouble: () => ["up", troubles.rateLimited(3)] },
  "up: 504": { args: upload, trouble: () => ["up", troubles.serverError("", 504)] },
  "up: HTML": { args: upload, trouble: () => ["up", troubles.htmlPage(200)] },
  "up: 400": { args: upload, trouble: () => ["up", { answer: { status: 400, body: `{"message":"No"}` } }] },
  "up: no deployment in the answer": { args: upload, trouble: () => ["up", { answer: { status: 200, body: "{}" } }] },
  "up: 413": { args: upload, trouble: () => ["up", { answer: { status: 413, body: "Too large" } }] },
  "up: cut after it landed": { args: upload, trouble: () => ["up", troubles.cutAfter()] },
  "up: no answer": {
    args: upload,
    options: environment({ RAILWAY_HTTP_TIMEOUT: "3" }),
    trouble: ({ never }) => ["up", troubles.late(never.promise)],
  },
  "up: nobody says who calls": { args: upload, options: environment({ RAILWAY_CALLER: undefined }) },
  "up: it may look for an update": { args: upload, options: environment({ RAILWAY_NO_AUTO_UPDATE: undefined }) },
};

/** What a caller of the CLI and Railway see of one case. */
async function play({ args, options, trouble }: Case, side: Side) {
  const { fake, run } = side;
  fake.faults.clear();
  const befalls = trouble?.(side);
  if (befalls !== undefined) fake.faults.add({ on: befalls[0], ...befalls[1] });
  const { stdout, stderr, exitCode, operations } = await run(args(side), options?.(side));
  const seen = {
    exitCode,
    stdout: jsonOf(stdout),
    stderr: stderr.split("\n")[0],
    operations: [...new Set(operations)],
    violations: [...new Set(fake.journal.violations.splice(0).map(withoutTelemetry))],
    messages: fake.operator.instance("pdf").deployments.map(({ message }) => message),
    files: fake.operator.instance("pdf").deployments.at(-1)?.files.map(({ path, mode, content }) => ({
      path,
      mode,
      content: content.toString(),
    })).toSorted((one, other) => one.path < other.path ? -1 : 1),
  };
  return JSON.parse(withoutIds(JSON.stringify(seen)));
}

/** That there is telemetry is enough: what it says of the machine is not compared. */
function withoutTelemetry(violation: string): string {
  return violation.replace(/^CliEventTrack:.*/s, "CliEventTrack");
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

/** Ids and sizes of archives differ from side to side: the packer's order and level are its own. */
function withoutIds(json: string): string {
  return json.replaceAll(/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/g, "ID").replaceAll(/\(\d+ bytes\)/g, "(N bytes)");
}

test.each(Object.entries(cases))("%s: the stub does as the real CLI", async (_, each) => {
  const [real, stub] = await Promise.all(sides.map((side) => play(each, side)));
  expect(stub).toEqual(real);
});

describe("an upload by the stub holds what the real CLI's holds", () => {
  const uploads: Record<string, () => string> = {
    "plain files, an executable one, hidden ones, an umlaut": () =>
      uploadDirectory({ "a/b/c.txt": "c", ".hidden": "h", "ü.txt": "u", [`${"long/".repeat(30)}x`]: "x" }),
    "symbolic links, as what they lead to": () => {
      const root = uploadDirectory({ "a.txt": "a", "d/e.txt": "e" });
      symlinkSync(join(root, "a.txt"), join(root, "link.txt"));
      symlinkSync(join(root, "d"), join(root, "linked"));
      return root;
    },
    "a symbolic link to nothing": () => {
      const root = uploadDirectory();
      symlinkSync("nowhere", join(root, "link"));
      return root;
    },
    "a symbolic link to a directory above": () => {
      const root = uploadDirectory({ "d/a.txt": "a" });
      symlinkSync(root, join(root, "d", "up"));
      return root;
    },
    "all of it, whatever an ignore file above says, when its own says so": () => {
      const above = scratchDirectory();
      writeFileSync(join(above, ".ignore"), "*\n");
      writeFileSync(join(above, ".railwayignore"), "*.txt\nsub\n");
      const root = join(above, "upload");
      mkdirSync(join(root, "sub"), { recursive: true });
      for (const path of ["a.txt", "sub/b.txt", "sub/.hidden"]) writeFileSync(join(root, path), path);
      writeFileSync(join(root, ".railwayignore"), "!*\n");
      return root;
    },
    "no node_modules and no .git": () =>
      uploadDirectory({ "a.txt": "a", "node_modules/x/i.js": "", ".git/HEAD": "", "b/node_modules/y.js": "" }),
    "nothing below node_modules": () => {
      const root = join(scratchDirectory(), "node_modules", "code");
      mkdirSync(root, { recursive: true });
      writeFileSync(join(root, "Dockerfile"), "FROM node:24\n");
      return root;
    },
  };
  test.each(Object.entries(uploads))("%s", async (_, prepare) => {
    const root = prepare();
    const args = (side: Side) => upload(side).map((each) => each === directory ? root : each);
    const [real, stub] = await Promise.all(sides.map((side) => play({ args }, side)));
    expect(stub).toEqual(real);
  });
});
