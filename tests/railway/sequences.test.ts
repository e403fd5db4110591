import { afterEach, beforeEach, expect, inject, test } from "vitest";
import { type FakeRailway, startFakeRailway } from "../../local/railway/fake-railway.ts";
import { log } from "../../local/railway/lifecycle.ts";
import { createRunCli, type RunCli } from "../support/railway/cli.ts";
import { uploadDirectory } from "../support/railway/upload-directory.ts";

let fake: FakeRailway;
let run: RunCli;

beforeEach(async () => {
  fake = await startFakeRailway({ cliSchema: inject("railwaySchema") ?? undefined });
  run = createRunCli(inject("railwayCli"), fake);
});

afterEach(async () => {
  await fake.stop();
  expect(fake.journal.violations).toEqual([]);
});

const target = () => ["-p", fake.project.id, "-e", fake.production.id];
const targetOf = (serviceId: string) => [...target(), "-s", serviceId];

const upload = (path: string, serviceId: string) =>
  run(["up", path, "--path-as-root", "--detach", "--json", "-m", "hash 1", ...targetOf(serviceId)]);

test("the first deployment takes five requests and one for each look", async () => {
  const listed = await run(["service", "list", ...target(), "--json"]);
  expect(listed).toMatchObject({ exitCode: 0, stdout: "[]" });
  expect(listed.operations.toSorted()).toEqual(["EnvironmentInstances", "Project", "Regions"]);

  const i = { projectId: fake.project.id, environmentId: fake.production.id, name: "pdf", variables: { A: "1" } };
  const created = await run(
    ["api", "mutation($i:ServiceCreateInput!){serviceCreate(input:$i){id name}}", "--variables", "@-", "--compact"],
    { input: JSON.stringify({ i }) },
  );
  expect(created).toMatchObject({ exitCode: 0, operations: ["serviceCreate"] });
  const { id } = JSON.parse(created.stdout).data.serviceCreate;

  const variables = { projectId: i.projectId, environmentId: i.environmentId, serviceId: id, skipDeploys: true };
  const upserted = await run(
    [
      ...["api", "mutation($i:VariableCollectionUpsertInput!){variableCollectionUpsert(input:$i)}"],
      ...["--variables", "@-", "--compact"],
    ],
    { input: JSON.stringify({ i: { ...variables, variables: { B: "2\n3" }, replace: true } }) },
  );
  expect(upserted).toMatchObject({ stdout: `{"data":{"variableCollectionUpsert":true}}`, exitCode: 0 });
  const settings = await run(
    [
      "api",
      "mutation($s:String!,$e:String!,$i:ServiceInstanceUpdateInput!)" +
      "{serviceInstanceUpdate(serviceId:$s,environmentId:$e,input:$i)}",
      ...["--variables", "@-", "--compact"],
    ],
    { input: JSON.stringify({ s: id, e: i.environmentId, i: { healthcheckPath: "/readyz", drainingSeconds: 30 } }) },
  );
  expect(settings).toMatchObject({ exitCode: 0, operations: ["serviceInstanceUpdate"] });

  const uploaded = await upload(uploadDirectory(), id);
  expect(uploaded).toMatchObject({ exitCode: 0, operations: ["Project", "up"], stderr: "" });
  const { deploymentId, logsUrl } = JSON.parse(uploaded.stdout);
  expect(logsUrl).not.toMatch(/&$/);
  expect(fake.journal.requests).toHaveLength(3 + 5);

  expect(fake.world.deployments.get(deploymentId)).toMatchObject({
    message: "hash 1",
    variables: { B: "2\n3" },
    settings: { healthcheckPath: "/readyz", drainingSeconds: 30 },
    files: [{ path: "Dockerfile" }, { path: "manifests/pdf.json" }],
  });
  const statuses: string[] = [];
  for (let look = 0; look < 4; look++) {
    const { stdout, operations } = await run([
      ...["api", "query($id:String!){deployment(id:$id){status instances{status}}}", "--raw-var", `id=${deploymentId}`],
    ]);
    expect(operations).toEqual(["deployment"]);
    statuses.push(JSON.parse(stdout).data.deployment.status);
  }
  expect(statuses).toEqual(["QUEUED", "BUILDING", "DEPLOYING", "SUCCESS"]);
});

test("the logs of a failed deployment are fetched, and the old one serves on", async () => {
  const { id } = fake.operator.createService("pdf");
  const old = JSON.parse((await upload(uploadDirectory(), id)).stdout).deploymentId;
  fake.operator.moveTo(old, "SUCCESS");
  fake.plans.next("pdf", ["FAILED"]);
  const { deploymentId } = JSON.parse((await upload(uploadDirectory(), id)).stdout);
  fake.operator.advance(deploymentId);
  const deployment = fake.world.deployments.get(deploymentId);
  if (deployment === undefined) throw new Error("no deployment");
  log(deployment, "build", "npm ci failed", { level: "error" });
  log(deployment, "deployment", "never ran");

  const build = await run(["logs", deploymentId, "--build", "-n", "200", "--json", ...targetOf(id)]);
  expect(JSON.parse(build.stdout)).toMatchObject({ message: "npm ci failed", level: "error" });
  expect(build.operations).toHaveLength(5);
  const ran = await run(["logs", deploymentId, "--deployment", "-n", "200", "--json", ...targetOf(id)]);
  expect(JSON.parse(ran.stdout)).toMatchObject({ message: "never ran" });
  expect(ran.operations).toHaveLength(4);

  const [row] = JSON.parse((await run(["service", "list", ...target(), "--json"])).stdout);
  expect(row).toMatchObject({
    status: "SUCCESS",
    deploymentId: old,
    latestDeployment: { id: deploymentId, status: "FAILED" },
    replicas: { configured: 1, running: 1, crashed: 0 },
  });
});
