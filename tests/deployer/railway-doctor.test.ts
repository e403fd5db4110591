import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { type FakeRailway, type FakeRailwayOptions, startFakeRailway } from "../../local/railway/fake-railway.ts";
import { writeStubCli } from "../../local/railway/stub-cli.ts";
import { runDoctor } from "../support/railway/doctor.ts";
import { scratchDirectory } from "../support/railway/scratch.ts";

const stub = writeStubCli(scratchDirectory(), process.env);
let fake: FakeRailway;

async function restart(options: FakeRailwayOptions): Promise<void> {
  await fake.stop();
  fake = await startFakeRailway(options);
}

beforeEach(async () => {
  fake = await startFakeRailway();
});
afterEach(async () => {
  await fake.stop();
  expect(fake.journal.violations).toEqual([]);
});

test("a project as it should be: everything is looked at, and nothing is changed", async () => {
  fake.operator.createService("billing", { OSP_INSTANCE: "marker-1", OSP_SERVICE: "billing", SECRET: "hidden" });
  fake.operator.createService("theirs");
  const { id } = fake.operator.redeploy("billing");
  fake.operator.moveTo(id, "SUCCESS");
  const before = structuredClone([...fake.world.deployments.values()].map(({ status }) => status));
  const { exitCode, stdout, stderr } = await runDoctor(stub, fake);
  expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: "" });
  expect(stdout.split("\n")).toEqual([
    "✓ CLI, token, project, environment: the token is let in, and the project has the environment",
    "✓ version of the CLI: 5.71.0",
    "✓ what the deployer changes: Railway's API knows every change that the deployer makes",
    "✓ listing of services: the CLI sees all 2 services",
    "✓ names of services: each stands once",
    "✓ services of ours: 1 of 2 carry a marker OSP_INSTANCE: marker-1",
    "? message of an upload: stands nowhere in a deployment's meta",
    "? removed deployments: none was removed yet",
    "",
    `Railway was asked ${fake.journal.requests.length} times, and nothing was changed. ✓ as believed, ✗ wrong, ? not known yet`,
  ]);
  expect([...fake.world.deployments.values()].map(({ status }) => status)).toEqual(before);
  expect(fake.journal.requests.flatMap(({ fields }) => fields).filter((field) => /Create|Delete|Upsert/.test(field)))
    .toEqual([]);
});

test("nothing deployed yet, an older CLI than the tested one: still open", async () => {
  const older = writeStubCli(scratchDirectory(), process.env, "5.60.0");
  const { exitCode, stdout } = await runDoctor(older, fake);
  expect(exitCode).toBe(0);
  expect(stdout).toContain("? version of the CLI: 5.60.0; the tests run with 5.71.0");
  expect(stdout).toContain("? deployments of ours: nothing was deployed yet");
});

test("a removed deployment tells whether Railway remembers it", async () => {
  fake.operator.createService("billing", { OSP_INSTANCE: "marker-1" });
  const [one, other] = [fake.operator.redeploy("billing"), fake.operator.redeploy("billing")];
  fake.operator.moveTo(other.id, "SUCCESS");
  expect(one.status).toBe("REMOVED");
  expect((await runDoctor(stub, fake)).stdout).toContain("✓ removed deployments: can still be asked for: REMOVED");
});

describe("what is wrong, and the exit code says so", () => {
  test("names that stand twice", async () => {
    fake.operator.createService("billing");
    fake.operator.createService("billing");
    const { exitCode, stdout } = await runDoctor(stub, fake);
    expect(exitCode).toBe(1);
    expect(stdout).toContain("✗ names of services: billing stand twice");
  });

  test("a listing that hides services from the CLI", async () => {
    await restart({ rules: { servicesPageSize: 1 } });
    fake.operator.createService("one");
    fake.operator.createService("two");
    const { exitCode, stdout } = await runDoctor(stub, fake);
    expect(exitCode).toBe(1);
    expect(stdout).toContain("✗ listing of services: the CLI sees 1 of 2 services: it will not upload to the others");
  });

  test.each<[string, () => Record<string, string | undefined>, RegExp]>([
    ["a project token", () => ({ RAILWAY_API_TOKEN: fake.tokens.project }), /RAILWAY_API_TOKEN is a project token/],
    ["a token that nobody knows", () => ({ RAILWAY_API_TOKEN: "nobody" }), /Railway refuses RAILWAY_API_TOKEN/],
    [
      "a project that is not there",
      () => ({ OSP_RAILWAY_PROJECT: "11111111-1111-4111-8111-111111111111" }),
      /there is no Railway project 11111111/,
    ],
    [
      "an environment that is not there",
      () => ({ OSP_RAILWAY_ENVIRONMENT: "11111111-1111-4111-8111-111111111111" }),
      /has no environment 11111111.*production is/,
    ],
  ])("%s: nothing else is looked at", async (_, environment, said) => {
    const { exitCode, stdout } = await runDoctor(stub, fake, environment());
    expect(exitCode).toBe(1);
    const [first = "", ...rest] = stdout.split("\n").filter((line) => /^[✓✗?]/.test(line));
    expect(first).toMatch(said);
    expect(rest).toEqual([]);
  });

  test("a second environment that lasts, unless it is allowed", async () => {
    fake.operator.addEnvironment("staging");
    expect((await runDoctor(stub, fake)).stdout).toMatch(/✗ .*has the environments production, staging/);
    expect((await runDoctor(stub, fake, { OSP_RAILWAY_ALLOW_ENVIRONMENTS: "true" })).exitCode).toBe(0);
  });
});

test.each<[string, Record<string, string | undefined>, RegExp]>([
  ["no token", { RAILWAY_API_TOKEN: undefined }, /RAILWAY_API_TOKEN: is not set/],
  ["an empty token", { RAILWAY_API_TOKEN: "" }, /RAILWAY_API_TOKEN: is not set/],
  ["a line break in the token", { RAILWAY_API_TOKEN: "a\nb" }, /RAILWAY_API_TOKEN: must be one word/],
  ["no project", { OSP_RAILWAY_PROJECT: undefined }, /OSP_RAILWAY_PROJECT: is not set/],
  ["a project's name for its id", { OSP_RAILWAY_PROJECT: "workers" }, /OSP_RAILWAY_PROJECT: must be the id/],
  [
    "no CLI",
    { RAILWAY_CLI_PATH: "/nowhere/railway" },
    /RAILWAY_CLI_PATH is \/nowhere\/railway, which is no executable/,
  ],
])("%s: it does not begin, and says what to set", async (_, environment, said) => {
  const { exitCode, stdout, stderr } = await runDoctor(stub, fake, environment);
  expect({ exitCode, stdout }).toEqual({ exitCode: 78, stdout: "" });
  expect(stderr).toMatch(said);
  expect(fake.journal.requests).toEqual([]);
});
