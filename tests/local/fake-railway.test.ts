import { request } from "node:http";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { type FakeRailway, type FakeRailwayOptions, startFakeRailway } from "../../local/railway/fake-railway.ts";
import { troubles } from "../../local/railway/faults.ts";
import { log } from "../../local/railway/lifecycle.ts";
import { writeStubCli } from "../../local/railway/stub-cli.ts";
import { createRunCli, type RunCli, type RunOptions } from "../support/railway/cli.ts";
import { uploadDirectory } from "../support/railway/upload-directory.ts";
import { scratchDirectory } from "../support/railway/scratch.ts";

const stub = writeStubCli(scratchDirectory(), process.env);
let fake: FakeRailway;
let run: RunCli;

async function start(options: FakeRailwayOptions = {}): Promise<void> {
  fake = await startFakeRailway(options);
  run = createRunCli(stub, fake);
}

beforeEach(() => start());
afterEach(() => fake.stop());

/** The answer to a document, asked for with `railway api`. */
async function ask(document: string, variables: object = {}, options: RunOptions = {}) {
  const args = ["api", document, "--variables", "@-", "--compact"];
  const { stdout } = await run(args, { ...options, input: JSON.stringify(variables) });
  return JSON.parse(stdout);
}

async function upload(service: string, directory = uploadDirectory()): Promise<string> {
  const target = ["-p", fake.project.id, "-e", fake.production.id, "-s", service];
  const { stdout } = await run(["up", directory, "--path-as-root", "--detach", "--json", ...target]);
  return JSON.parse(stdout).deploymentId;
}

const statusOf = (id: string) => fake.world.deployments.get(id)?.status;
const replicasOf = (id: string) => fake.world.deployments.get(id)?.replicas.map(({ status }) => status);
const look = async (id: string) =>
  (await ask("query($id: String!) { deployment(id: $id) { status } }", { id })).data.deployment.status;
const violations = () => fake.journal.violations.splice(0).join("\n");

describe("what no well-behaved client sends is a violation", () => {
  const id = "00000000-0000-0000-0000-000000000000";
  const documents: [string, string, object, RegExp][] = [
    ["an unknown field", "{ nope }", {}, /Cannot query field "nope" on type "Query"/],
    ["a document that is none", "{", {}, /Syntax Error/],
    [
      "a variable too few",
      "query($id: String!) { deployment(id: $id) { id } }",
      {},
      /"\$id".* non-null type "String!"/,
    ],
    [
      "an ill-typed variable",
      "query($id: String!) { deployment(id: $id) { id } }",
      { id: 1 },
      /cannot represent a non string/,
    ],
    [
      "a variable that is not declared",
      "{ apiToken { workspaces { id } } }",
      { id },
      /"\$id" is sent and not declared/,
    ],
    [
      "an unknown input field",
      "mutation($i: ServiceCreateInput!) { serviceCreate(input: $i) { id } }",
      { i: { projectId: id, title: "x" } },
      /unknown field "title"/,
    ],
  ];
  test.each(documents)("%s", async (_, document, variables, said) => {
    expect((await ask(document, variables)).errors).toHaveLength(1);
    expect(violations()).toMatch(said);
  });

  test("a variable of a service that is no text", async () => {
    const { id: serviceId } = fake.operator.createService("pdf");
    const i = { projectId: fake.project.id, environmentId: fake.production.id, serviceId, variables: { PORT: 1 } };
    await ask("mutation($i: VariableCollectionUpsertInput!) { variableCollectionUpsert(input: $i) }", { i });
    expect(violations()).toBe("variableCollectionUpsert: variables that are no text: PORT");
  });

  test("telemetry, a look for updates, an unnamed caller", async () => {
    fake.operator.createService("pdf");
    const target = ["-p", fake.project.id, "-e", fake.production.id, "-s", "pdf"];
    await run(["up", uploadDirectory(), "--path-as-root", "--detach", "--json", ...target], {
      environment: { RAILWAY_NO_TELEMETRY: undefined, RAILWAY_NO_AUTO_UPDATE: undefined, RAILWAY_CALLER: undefined },
    });
    expect(violations().split("\n")).toEqual([
      "up: header x-railway-caller reports an AI agent",
      expect.stringContaining("CliEventTrack"),
      "a connection to elsewhere: CONNECT api.github.com:443",
    ]);
  });

  test("a plain request through the proxy", async () => {
    const status = await new Promise((resolve) => {
      request(fake.environment.HTTPS_PROXY, { path: "http://example.com/" }, ({ statusCode }) => resolve(statusCode))
        .end();
    });
    expect(status).toBe(403);
    expect(violations()).toBe("a connection to elsewhere: GET http://example.com/");
  });

  test("an upload of nothing", async () => {
    fake.operator.createService("pdf");
    await upload("pdf", uploadDirectory({ "node_modules/x.js": "" }));
    expect(violations()).toBe("up: an upload without a file");
  });
});

describe("a deployment", () => {
  test("goes one step on with each look, and holds what was uploaded", async () => {
    fake.operator.createService("pdf", { A: "1" });
    const id = await upload("pdf");
    expect([await look(id), await look(id), await look(id), await look(id), await look(id)])
      .toEqual(["QUEUED", "BUILDING", "DEPLOYING", "SUCCESS", "SUCCESS"]);
    const { files, variables } = fake.world.deployments.get(id) ?? { files: [] };
    expect(files.map(({ path, content }) => [path, content.toString()])).toEqual([
      ["Dockerfile", "FROM node:24\n"],
      ["manifests/pdf.json", "{}\n"],
    ]);
    expect(variables).toEqual({ A: "1" });
    expect(violations()).toBe("");
  });

  test("stays where it is when it is to move by hand", async () => {
    await fake.stop();
    await start({ pace: "manual" });
    fake.operator.createService("pdf");
    const id = await upload("pdf");
    expect([await look(id), await look(id)]).toEqual(["QUEUED", "QUEUED"]);
    fake.operator.advance(id);
    expect(await look(id)).toBe("BUILDING");
  });

  test("ends its predecessor only once it is up itself", async () => {
    fake.operator.createService("pdf");
    const old = await upload("pdf");
    fake.operator.moveTo(old, "SUCCESS");
    const young = await upload("pdf");
    for (const status of ["BUILDING", "DEPLOYING"] as const) {
      fake.operator.moveTo(young, status);
      expect([statusOf(old), replicasOf(old)]).toEqual(["SUCCESS", ["RUNNING"]]);
    }
    fake.operator.moveTo(young, "SUCCESS");
    expect([statusOf(old), replicasOf(old)]).toEqual(["REMOVING", ["REMOVING"]]);
    expect(await look(old)).toBe("REMOVING"); // it drains
    expect(await look(old)).toBe("REMOVED");
  });

  test("that fails leaves its predecessor alone", async () => {
    fake.operator.createService("pdf");
    const old = await upload("pdf");
    fake.operator.moveTo(old, "SUCCESS");
    fake.plans.next("pdf", ["BUILDING", "DEPLOYING", "FAILED"]);
    const young = await upload("pdf");
    for (let step = 0; step < 4; step++) await look(young);
    expect([statusOf(young), statusOf(old)]).toEqual(["FAILED", "SUCCESS"]);
  });

  test("crashes after it was up, is skipped or waits for somebody, as planned", async () => {
    fake.operator.createService("pdf");
    fake.plans.next("pdf", ["SUCCESS", "SUCCESS", "CRASHED"]);
    fake.plans.next("*", ["SKIPPED"]);
    fake.plans.next("pdf", ["NEEDS_APPROVAL"]);
    const crashed = await upload("pdf");
    expect([await look(crashed), await look(crashed), await look(crashed), await look(crashed)])
      .toEqual(["QUEUED", "SUCCESS", "SUCCESS", "CRASHED"]);
    expect(replicasOf(crashed)).toEqual(["CRASHED"]);
    const skipped = await upload("pdf");
    expect([await look(skipped), await look(skipped)]).toEqual(["QUEUED", "SKIPPED"]);
    const waiting = await upload("pdf");
    expect([await look(waiting), await look(waiting), await look(waiting)])
      .toEqual(["QUEUED", "NEEDS_APPROVAL", "NEEDS_APPROVAL"]);
  });

  test("gives way to a younger one while it is built, and to one made by hand", async () => {
    fake.operator.createService("pdf");
    const first = await upload("pdf");
    const second = await upload("pdf");
    expect([statusOf(first), statusOf(second)]).toEqual(["REMOVED", "QUEUED"]);
    const byHand = fake.operator.redeploy("pdf");
    expect([statusOf(second), byHand.files.length]).toEqual(["REMOVED", 2]);
  });

  test("is run by whoever is given the upload, and told when to end", async () => {
    await fake.stop();
    await start({
      async runDeployment(deployment) {
        log(deployment, "build", "built");
        fake.operator.moveTo(deployment.id, "SUCCESS");
        await new Promise((resolve) => deployment.ending.signal.addEventListener("abort", resolve));
        log(deployment, "deployment", "drained");
      },
    });
    fake.operator.createService("pdf");
    const id = await upload("pdf");
    expect(await look(id)).toBe("SUCCESS");
    expect((await ask("mutation($id: String!) { deploymentRemove(id: $id) }", { id })).data).toEqual({
      deploymentRemove: true,
    });
    await expect.poll(() => statusOf(id)).toBe("REMOVED");
    const logs = await ask("query($id: String!) { deploymentLogs(deploymentId: $id) { message } }", { id });
    expect(logs.data.deploymentLogs).toEqual([{ message: "drained" }]);
  });

  test("whose runner fails has failed, with the reason in its log", async () => {
    await fake.stop();
    await start({ runDeployment: () => Promise.reject(new Error("no Dockerfile")) });
    fake.operator.createService("pdf");
    const id = await upload("pdf");
    await expect.poll(() => statusOf(id)).toBe("FAILED");
    expect(fake.world.deployments.get(id)?.buildLog.map(({ message }) => message)).toEqual(["Error: no Dockerfile"]);
  });
});

test("only a build in progress can be cancelled", async () => {
  fake.operator.createService("pdf");
  const cancel = (id: string) => ask("mutation($id: String!) { deploymentCancel(id: $id) }", { id });
  const id = await upload("pdf");
  expect((await cancel(id)).data).toEqual({ deploymentCancel: true });
  expect(statusOf(id)).toBe("REMOVED");
  const running = await upload("pdf");
  fake.operator.moveTo(running, "SUCCESS");
  expect((await cancel(running)).errors).toMatchObject([{ message: "Deployment is not in progress" }]);
});

test("an upload that is on its way for a while takes effect when it arrives, though nobody waits for it any more", async () => {
  fake.operator.createService("pdf");
  const arrival = Promise.withResolvers<void>();
  fake.faults.add({ on: "up", ...troubles.onItsWay(arrival.promise) });
  const target = ["-p", fake.project.id, "-e", fake.production.id, "-s", "pdf"];
  const given = { environment: { RAILWAY_HTTP_TIMEOUT: "1" } };
  const { exitCode } = await run(["up", uploadDirectory(), "--path-as-root", "--detach", "--json", ...target], given);
  expect([exitCode, fake.world.deployments.size]).toEqual([1, 0]);
  arrival.resolve();
  await expect.poll(() => fake.world.deployments.size).toBe(1);
});

describe("a token", () => {
  const asProject = () => ({ environment: { RAILWAY_TOKEN: fake.tokens.project } });
  const asAccount = () => ({ environment: { RAILWAY_API_TOKEN: fake.tokens.account } });
  const refused = { data: null, errors: [expect.objectContaining({ message: "Not Authorized" })] };

  test("of a workspace sees the workspace, and is nobody's", async () => {
    expect((await ask("{ apiToken { workspaces { name } } }")).data.apiToken.workspaces).toEqual([{ name: "OSP" }]);
    expect(await ask("{ me { id } }")).toMatchObject(refused);
  });

  test("of an account is somebody's", async () => {
    expect((await ask("{ me { id } }", {}, asAccount())).data.me).toEqual({ id: "user" });
  });

  test("of a project reads its project, and creates nothing", async () => {
    const { id } = fake.project;
    const answer = await ask("query($id: String!) { project(id: $id) { name } }", { id }, asProject());
    expect(answer.data.project.name).toBe("osp-workers");
    const i = { projectId: id, name: "pdf" };
    const create = "mutation($i: ServiceCreateInput!) { serviceCreate(input: $i) { id } }";
    expect(await ask(create, { i }, asProject())).toMatchObject(refused);
    expect(await ask("{ apiToken { workspaces { id } } }", {}, asProject())).toMatchObject(refused);
  });

  test("that was revoked is nobody's until it is known again", async () => {
    const restore = fake.operator.revoke(fake.tokens.workspace);
    expect(await ask("{ apiToken { workspaces { id } } }")).toMatchObject(refused);
    restore();
    expect(await ask("{ apiToken { workspaces { id } } }")).not.toHaveProperty("errors");
  });
});

describe("a service", () => {
  const create = "mutation($i: ServiceCreateInput!) { serviceCreate(input: $i) { id } }";
  const remove = "mutation($e: String, $id: String!) { serviceDelete(environmentId: $e, id: $id) }";
  const environments = (service: string) =>
    fake.world.instances.filter(({ serviceId }) => serviceId === service).map(({ environmentId }) =>
      fake.world.environments.get(environmentId)?.name
    );

  test("is created and deleted in every environment that is no fork", async () => {
    fake.operator.addEnvironment("staging");
    const fork = fake.operator.addEnvironment("pr-1", fake.production);
    const { data } = await ask(create, {
      i: { projectId: fake.project.id, environmentId: fake.production.id, name: "pdf" },
    });
    const { id } = data.serviceCreate;
    expect(environments(id)).toEqual(["production", "staging"]);
    await ask(remove, { e: fork.id, id });
    expect(environments(id)).toEqual(["production", "staging"]);
    await ask(remove, { e: fake.production.id, id });
    expect([environments(id), fake.world.services.size]).toEqual([[], 0]);
  });

  test("may share its name with another, unless the stand-in is told otherwise", async () => {
    const i = { projectId: fake.project.id, environmentId: fake.production.id, name: "pdf" };
    await ask(create, { i });
    expect(await ask(create, { i })).not.toHaveProperty("errors");
    await fake.stop();
    await start({ rules: { uniqueServiceNames: true } });
    i.projectId = fake.project.id;
    i.environmentId = fake.production.id;
    await ask(create, { i });
    expect((await ask(create, { i })).errors[0].message).toContain(`"pdf" already exists`);
  });

  test("has a name of 32 characters at most", async () => {
    const i = { projectId: fake.project.id, name: "x".repeat(33) };
    expect((await ask(create, { i })).errors[0].message).toContain("at most 32 characters");
  });

  test("shows no sealed variable, and its container gets it", async () => {
    const { id: s } = fake.operator.createService("pdf", { A: "1", SECRET: "2" });
    fake.operator.seal("pdf", "SECRET");
    const document = `query($p: String!, $e: String!, $s: String!) {
      variables(projectId: $p, environmentId: $e, serviceId: $s)
      variablesForServiceDeployment(projectId: $p, environmentId: $e, serviceId: $s)
    }`;
    const { data } = await ask(document, { p: fake.project.id, e: fake.production.id, s });
    expect(data.variables).not.toHaveProperty("SECRET");
    expect(data.variables).toMatchObject({ A: "1", RAILWAY_SERVICE_NAME: "pdf" });
    expect(data.variablesForServiceDeployment).toMatchObject({ A: "1", SECRET: null });
    expect(fake.world.deployments.get(await upload("pdf"))?.variables).toEqual({ A: "1", SECRET: "2" });
  });

  test("that is deleted ends what runs of it", async () => {
    const { id } = fake.operator.createService("pdf");
    const deployment = fake.world.deployments.get(await upload("pdf"));
    await ask(remove, { e: fake.production.id, id });
    expect([deployment?.status, deployment?.ending.signal.aborted, fake.world.deployments.size]).toEqual([
      "REMOVED",
      true,
      0,
    ]);
  });
});

test("requests are counted by operation, with the services that they name", async () => {
  const { id } = fake.operator.createService("pdf");
  await upload(id);
  await ask("query Ask($s: String!, $e: String!) { serviceInstance(serviceId: $s, environmentId: $e) { id } }", {
    s: id,
    e: fake.production.id,
  });
  expect(fake.journal.requests.map(({ number, operation, serviceIds }) => [number, operation, serviceIds])).toEqual([
    [1, "Project", []],
    [2, "up", [id]],
    [3, "Ask", [id]],
  ]);
});
