import { afterEach, beforeEach, describe, expect, inject, test } from "vitest";
import { type FakeRailway, startFakeRailway } from "../../local/railway/fake-railway.ts";
import { type Trouble, troubles } from "../../local/railway/faults.ts";
import { type CliRun, createRunCli, type RunCli } from "../support/railway/cli.ts";
import { uploadDirectory } from "../support/railway/upload-directory.ts";

let fake: FakeRailway;
let run: RunCli;
let serviceId: string;

beforeEach(async () => {
  fake = await startFakeRailway({ cliSchema: inject("railwaySchema") ?? undefined });
  run = createRunCli(inject("railwayCli"), fake);
  serviceId = fake.operator.createService("pdf").id;
});

afterEach(async () => {
  await fake.stop();
  expect(fake.journal.violations).toEqual([]);
});

const target = () => ["-p", fake.project.id, "-e", fake.production.id];
const list = () => run(["service", "list", ...target(), "--json"]);
const upload = () =>
  run(["up", uploadDirectory(), "--path-as-root", "--detach", "--json", ...target(), "-s", serviceId]);
const create = () =>
  run(["api", "mutation($i:ServiceCreateInput!){serviceCreate(input:$i){id}}", "--variables", "@-", "--compact"], {
    input: JSON.stringify({ i: { projectId: fake.project.id, environmentId: fake.production.id, name: "mail" } }),
  });
const named = (name: string) => [...fake.world.services.values()].filter((each) => each.name === name).length;

describe("what the CLI says of", () => {
  const cases: [string, string, () => Promise<CliRun>, Trouble, RegExp][] = [
    ["429, seconds", "Project", list, troubles.rateLimited(3), /^You are being ratelimited\. Try again in 3 seconds/],
    [
      "429, minutes",
      "Project",
      list,
      troubles.rateLimited(200),
      /^You are being ratelimited\. Try again in about 4 minutes/,
    ],
    ["429 of api", "*", create, troubles.rateLimited(3), /^Railway API request failed with HTTP 429 Too Many Requests/],
    [
      "429 of an upload",
      "up",
      upload,
      troubles.rateLimited(3),
      /Failed to upload code with status code 429 Too Many Requests/,
    ],
    [
      "a workspace's throttle",
      "serviceCreate",
      create,
      troubles.throttled(),
      /^Railway API returned 1 GraphQL error\(s\)/,
    ],
    ["500 with a message", "Project", list, troubles.serverError("Boom"), /^Boom/],
    ["500 of api", "serviceCreate", create, troubles.serverError("Boom"), /HTTP 500 Internal Server Error/],
    ["504 of an upload", "up", upload, troubles.serverError("", 504), /status code 504 Gateway Timeout/],
    [
      "413",
      "up",
      upload,
      troubles.tooLarge(),
      /Failed to upload code\. File too large \(\d+ bytes\): Payload too large/,
    ],
    ["HTML", "Project", list, troubles.htmlPage(), /^Failed to fetch: error decoding response body/],
    ["a cut connection", "Project", list, troubles.cutBefore(), /^Failed to fetch: error sending request for url/],
    ["a cut upload", "up", upload, troubles.cutBefore(), /error sending request for url/],
  ];
  test.each(cases)("%s", async (_, on, command, trouble, said) => {
    fake.faults.add({ on, ...trouble });
    const { exitCode, stdout, stderr } = await command();
    expect(exitCode).toBe(1);
    // `up --json` alone tells of failures on stdout.
    expect(command === upload ? JSON.parse(stdout).error : stderr).toMatch(said);
    expect(await command()).toMatchObject({ exitCode: 0 }); // befallen once
  });

  test("a token that was revoked", async () => {
    const restore = fake.operator.revoke(fake.tokens.workspace);
    expect((await list()).stderr).toMatch(/^Unauthorized\. Please check that your RAILWAY_API_TOKEN is valid/);
    expect((await create()).stdout).toBe(`{"data":null,"errors":[{"message":"Not Authorized"}]}`);
    restore();
    expect(await list()).toMatchObject({ exitCode: 0 });
  });

  test("a service that was deleted behind its back", async () => {
    fake.operator.removeService(serviceId);
    const { stdout, exitCode } = await upload();
    expect({ exitCode, ...JSON.parse(stdout) }).toMatchObject({ exitCode: 1, error: "Service not found" });
  });
});

describe("a mutation whose answer is lost", () => {
  test("has taken effect when the connection is cut after it", async () => {
    fake.faults.add({ on: "serviceCreate", ...troubles.cutAfter() });
    expect(await create()).toMatchObject({ exitCode: 1, stdout: "" });
    expect(named("mail")).toBe(1);
  });

  test("has not when it is cut before", async () => {
    fake.faults.add({ on: "serviceCreate", ...troubles.cutBefore() });
    expect(await create()).toMatchObject({ exitCode: 1 });
    expect(named("mail")).toBe(0);
  });

  test("has taken effect twice when something on the way repeats it", async () => {
    fake.faults.add({ on: "serviceCreate", ...troubles.twice() });
    expect(await create()).toMatchObject({ exitCode: 0 });
    expect(named("mail")).toBe(2);
  });

  test("has taken effect while its answer is late", async () => {
    const answer = Promise.withResolvers<void>();
    fake.faults.add({ on: "up", ...troubles.late(answer.promise) });
    const uploading = upload();
    await expect.poll(() => fake.world.deployments.size, { timeout: 20_000 }).toBe(1);
    answer.resolve();
    expect(await uploading).toMatchObject({ exitCode: 0 });
  });
});

test("only the third request that names a service is befallen", async () => {
  fake.faults.add({ on: "up", serviceId, skip: 2, ...troubles.serverError("", 503) });
  const exits = [await upload(), await upload(), await upload(), await upload()].map(({ exitCode }) => exitCode);
  expect(exits).toEqual([0, 0, 1, 0]);
});
