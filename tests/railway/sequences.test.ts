import { afterEach, beforeEach, expect, inject, test } from "vitest";
import { type FakeRailway, startFakeRailway } from "../../local/railway/fake-railway.ts";
import { troubles } from "../../local/railway/faults.ts";
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

test("a changed manifest takes three requests", async () => {
  const { id } = fake.operator.createService("pdf");
  const i = { projectId: fake.project.id, environmentId: fake.production.id, serviceId: id, variables: { A: "1" } };
  const upsert = "mutation($i:VariableCollectionUpsertInput!){variableCollectionUpsert(input:$i)}";
  const set = await run(["api", upsert, "--variables", "@-"], {
    input: JSON.stringify({ i: { ...i, skipDeploys: true } }),
  });
  const uploaded = await upload(uploadDirectory(), id);
  expect([...set.operations, ...uploaded.operations]).toEqual(["variableCollectionUpsert", "Project", "up"]);
});

test("only variables changed: a redeployment of what was uploaded", async () => {
  const { id } = fake.operator.createService("pdf");
  const first = JSON.parse((await upload(uploadDirectory(), id)).stdout).deploymentId;
  const redeploy = () => run(["redeploy", "--yes", "--json", ...targetOf(id)]);
  const tooEarly = await redeploy();
  expect(tooEarly).toMatchObject({ exitCode: 1, stderr: expect.stringContaining("cannot be redeployed") });

  fake.operator.moveTo(first, "SUCCESS");
  fake.operator.instance("pdf").variables.set("A", { value: "2", sealed: false });
  const { stdout, exitCode, operations } = await redeploy();
  expect({ exitCode, requests: operations.length }).toEqual({ exitCode: 0, requests: 4 });
  const redeployed = fake.world.deployments.get(JSON.parse(stdout).id);
  expect(redeployed).toMatchObject({ variables: { A: "2" }, files: [{ path: "Dockerfile" }, {}] });
});

test("two replicas are asked for by region, which starts a rollout", async () => {
  const { id } = fake.operator.createService("pdf");
  fake.operator.moveTo(JSON.parse((await upload(uploadDirectory(), id)).stdout).deploymentId, "SUCCESS");
  const scaled = await run(["scale", "us-west2=2", ...targetOf(id), "--json"]);
  expect(scaled).toMatchObject({ exitCode: 0, stdout: `{"regions":{"us-west2":{"numReplicas":2}}}` });
  expect(scaled.operations).toHaveLength(4);
  const [newest] = fake.operator.instance("pdf").deployments.slice(-1);
  fake.operator.moveTo(newest?.id ?? "", "SUCCESS");
  const [row] = JSON.parse((await run(["service", "list", ...target(), "--json"])).stdout);
  expect(row).toMatchObject({
    replicas: { configured: 2, running: 2 },
    regions: [{ name: "us-west2", configured: 2 }],
  });
});

test("a service is stopped by its deployment's id or by down, which then finds nothing", async () => {
  const { id } = fake.operator.createService("pdf");
  const [one, other] = [await upload(uploadDirectory(), id), await upload(uploadDirectory(), id)];
  const [first, second] = [one, other].map(({ stdout }) => JSON.parse(stdout).deploymentId);
  expect(fake.world.deployments.get(first)?.status).toBe("REMOVED");
  fake.operator.moveTo(second, "SUCCESS");
  expect(await run(["down", "--yes", ...targetOf(id)])).toMatchObject({ exitCode: 0, stdout: "", stderr: "" });
  expect(fake.world.deployments.get(second)?.status).toBe("REMOVING");
  const again = await run(["down", "--yes", ...targetOf(id)]);
  expect(again).toMatchObject({ exitCode: 1, stderr: expect.stringContaining("No deployments found") });
  const remove = ["api", "mutation($id:String!){deploymentRemove(id:$id)}", "--raw-var", `id=${second}`, "--compact"];
  expect(await run(remove)).toMatchObject({ exitCode: 0, stdout: `{"data":{"deploymentRemove":true}}` });
});

test("a service is deleted once; then it is not found", async () => {
  const { id } = fake.operator.createService("pdf");
  fake.operator.createService("mail");
  const remove = () => run(["service", "delete", "--yes", "--json", ...targetOf(id)]);
  const removed = await remove();
  expect(removed.operations).toHaveLength(3);
  expect(JSON.parse(removed.stdout)).toMatchObject({ id, name: "pdf", environmentName: "production", unlinked: false });
  const again = await remove();
  expect(again.stderr).toContain(`Service "${id}" not found in environment 'production'`);
});

test("after an upload whose outcome is not known the newest deployment is listed", async () => {
  const { id } = fake.operator.createService("pdf");
  fake.faults.add({ on: "up", ...troubles.cutAfter() });
  expect(await upload(uploadDirectory(), id)).toMatchObject({ exitCode: 1 });
  const listed = await run(["deployment", "list", ...targetOf(id), "--limit", "5", "--json"]);
  expect(listed.operations).toHaveLength(3);
  expect(JSON.parse(listed.stdout)).toMatchObject([{ status: "QUEUED" }]);
});
