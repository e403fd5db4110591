import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, expect, inject, test } from "vitest";
import { type FakeRailway, startFakeRailway } from "../../local/railway/fake-railway.ts";
import { createRunCli, type RunCli } from "../support/railway/cli.ts";
import { uploadDirectory } from "../support/railway/upload-directory.ts";
import { scratchDirectory } from "../support/railway/scratch.ts";

// What the CLI does and nobody would expect: the reasons why the deployer asks the API for most things. When one of these
// fails with a newer CLI, the trap is gone and the deployer may become simpler.

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
const services = () => [...fake.world.services.values()].map(({ name }) => name);

test("add creates the service and then fails, where only the environment names the project", async () => {
  const { exitCode, stdout, stderr } = await run(["add", "--service", "pdf", "--json"], {
    environment: { RAILWAY_PROJECT_ID: fake.project.id, RAILWAY_ENVIRONMENT_ID: fake.production.id },
  });
  expect({ exitCode, stdout, services: services() }).toEqual({ exitCode: 1, stdout: "", services: ["pdf"] });
  expect(stderr).toContain("Project not found. Run `railway link`");
});

test("add succeeds in a directory that is linked", async () => {
  const home = scratchDirectory();
  mkdirSync(join(home, ".railway"));
  const link = { projectPath: home, project: fake.project.id, environment: fake.production.id };
  writeFileSync(join(home, ".railway", "config.json"), JSON.stringify({ projects: { [home]: link }, user: {} }));
  const { exitCode, stdout, operations } = await run(["add", "--service", "pdf", "--json"], {
    cwd: home,
    environment: { HOME: home },
  });
  expect({ exitCode, ...JSON.parse(stdout) }).toMatchObject({ exitCode: 0, name: "pdf" });
  expect(operations).toEqual(["Project", "ServiceCreate"]);
});

test("environment edit with --service-config does nothing and exits with 0", async () => {
  const { id } = fake.operator.createService("pdf");
  const edited = await run([
    ...["environment", "edit", ...target(), "--service-config", id, "deploy.startCommand", "node main.js"],
    ...["-m", "start", "--json"],
  ]);
  expect(edited.exitCode).toBe(0);
  expect(edited.operations).not.toContain("EnvironmentPatchCommit");
  expect(fake.operator.instance("pdf").settings).not.toHaveProperty("startCommand");
});

test("environment edit takes a patch on stdin", async () => {
  const { id } = fake.operator.createService("pdf");
  const patch = { services: { [id]: { deploy: { startCommand: "node main.js" } } } };
  const edited = await run(["environment", "edit", ...target(), "-m", "start", "--json"], {
    input: JSON.stringify(patch),
  });
  expect({ exitCode: edited.exitCode, ...JSON.parse(edited.stdout) }).toMatchObject({ exitCode: 0, committed: true });
  expect(edited.operations).toHaveLength(3);
  expect(fake.operator.instance("pdf").settings).toMatchObject({ startCommand: "node main.js" });
});

test("up packs nothing where node_modules stands anywhere in the path, and exits with 0", async () => {
  const { id } = fake.operator.createService("pdf");
  const root = uploadDirectory({ "node_modules/code/Dockerfile": "FROM node:24\n" });
  const upload = [
    "up",
    join(root, "node_modules", "code"),
    "--path-as-root",
    "--detach",
    "--json",
    ...target(),
    "-s",
    id,
  ];
  expect(await run(upload)).toMatchObject({ exitCode: 0 });
  expect(fake.operator.instance("pdf").deployments).toMatchObject([{ files: [] }]);
  expect(fake.journal.violations.splice(0)).toEqual(["up: an upload without a file"]);
});

test("scale --project asks nobody; -p does", async () => {
  const { id } = fake.operator.createService("pdf");
  const [, project, ...rest] = target();
  const scaled = await run(["scale", "us-west2=1", "--project", project ?? "", ...rest, "-s", id, "--json"]);
  expect(scaled).toMatchObject({ exitCode: 1, operations: [] });
});

test("an inherited project is what a command without a target works on", async () => {
  const { id } = fake.operator.createService("deployer");
  const [deployment] = [fake.operator.redeploy("deployer")];
  fake.operator.moveTo(deployment.id, "SUCCESS");
  const environment = {
    RAILWAY_PROJECT_ID: fake.project.id,
    RAILWAY_ENVIRONMENT_ID: fake.production.id,
    RAILWAY_SERVICE_ID: id,
  };
  expect(await run(["down", "--yes"], { environment })).toMatchObject({ exitCode: 0, stdout: "", stderr: "" });
  expect(deployment.status).toBe("REMOVING");
});

test("flags before a subcommand of variable are dropped", async () => {
  fake.operator.createService("pdf");
  const set = await run([
    "variable",
    "-s",
    "nobody",
    "set",
    "A=1",
    "--skip-deploys",
    ...target(),
    "-s",
    "pdf",
    "--json",
  ]);
  expect(set).toMatchObject({ exitCode: 0, stdout: `{"keys":["A"],"set":true}` });
  expect(fake.operator.instance("pdf").variables.get("A")).toMatchObject({ value: "1" });
});
