import { readdirSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { identifyProcess } from "../../host/process-identity.ts";
import { parseDockerfile } from "../../local/railway/container/dockerfile.ts";
import type { Deployment } from "../../local/railway/world.ts";
import { type RunningRailway, startRunningRailway, written } from "../support/railway/runner.ts";
import { uploadDirectory } from "../support/railway/upload-directory.ts";
import { eventually } from "../support/services.ts";

const from = `FROM node:${process.versions.node}-bookworm-slim`;

/** Serves `/ready` and says `hello`; ends as `ending` says. */
const program = (ending = "") => `
import { createServer } from "node:http";
console.log(JSON.stringify({ message: "hello", event: "up", pid: process.pid, port: process.env.PORT, kept: process.env.KEPT }));
process.on("SIGTERM", () => { console.log("draining"); process.exit(0); });
createServer((request, response) => response.writeHead(request.url === "/ready" ? 200 : 404).end()).listen(process.env.PORT);
${ending}
`;

const image = (main: string, steps = "") =>
  uploadDirectory({
    Dockerfile: `# comment\n${from}\n\nENV KEPT=/home/node/kept\nUSER node\nRUN mkdir ~/app\nWORKDIR /home/node/app\n` +
      `COPY --chown=node:node . .\n${steps}\nCMD ["node", "main.mjs"]\n`,
    "main.mjs": main,
  });

const settings = { healthcheckPath: "/ready", healthcheckTimeout: 20, drainingSeconds: 5, restartPolicyMaxRetries: 1 };

async function startService(given: object = {}): Promise<RunningRailway> {
  const railway = await startRunningRailway();
  onTestFinished(railway.stop);
  railway.fake.operator.createService("pdf");
  Object.assign(railway.fake.operator.instance("pdf").settings, settings, given);
  return railway;
}

/** Waits for a status; fails with what was written when the deployment has ended with another. */
async function until(deployment: Deployment, ...statuses: string[]): Promise<void> {
  const over = [...statuses, "FAILED", "CRASHED", "REMOVED"];
  const status = await eventually(() => Promise.resolve(deployment.status), (now) => over.includes(now));
  if (statuses.includes(status)) return;
  throw new Error(`${status}: ${written(deployment, "buildLog")}\n${written(deployment, "deploymentLog")}`);
}

/** What its container said of itself when it came up. */
function self(deployment: Deployment): { pid: number; port: number; kept: string } {
  const { attributes } = deployment.deploymentLog.find(({ message }) => message === "hello") ?? {};
  const [pid, port, kept] = ["pid", "port", "kept"].map((name) => JSON.parse(attributes?.[name] ?? "null"));
  return { pid, port: Number(port), kept };
}

describe("what is uploaded is built and runs", () => {
  test("until it is removed: then it drains", async () => {
    const { fake, upload, directory } = await startService();
    const deployment = await upload("pdf", image(program()));
    await until(deployment, "SUCCESS");
    const { pid, kept } = self(deployment);
    expect(kept.startsWith(directory) && kept.endsWith("/home/node/kept")).toBe(true);
    expect(written(deployment, "buildLog")).toContain("RUN mkdir ~/app");
    expect(deployment.replicas).toMatchObject([{ status: "RUNNING" }]);
    fake.operator.remove(deployment.id);
    await until(deployment, "REMOVED");
    expect(identifyProcess(pid)).toBeUndefined();
    expect(written(deployment, "deploymentLog")).toContain("draining");
  });

  test("and ends its predecessor only when it is healthy itself", async () => {
    const { upload } = await startService();
    const old = await upload("pdf", image(program()));
    await until(old, "SUCCESS");
    const broken = await upload("pdf", image("process.exit(3)"));
    await until(broken, "FAILED");
    expect([old.status, identifyProcess(self(old).pid) !== undefined]).toEqual(["SUCCESS", true]);
    const young = await upload("pdf", image(program()));
    await until(young, "SUCCESS");
    await until(old, "REMOVED");
    expect(identifyProcess(self(young).pid)).toBeDefined();
    expect(self(young).port).not.toBe(self(old).port);
  });

  test("as many times as it has replicas", async () => {
    const { upload } = await startService({ numReplicas: 2 });
    const deployment = await upload("pdf", image(program()));
    await until(deployment, "SUCCESS");
    expect(deployment.replicas.map(({ status }) => status)).toEqual(["RUNNING", "RUNNING"]);
    expect(deployment.deploymentLog.filter(({ message }) => message === "hello")).toHaveLength(2);
  });
});

describe("what fails", () => {
  test.each([
    ["a step of the build", image("", "RUN echo so far && exit 4"), /so far[^]*The step failed with 4/],
    ["an instruction that nobody knows", image("", "ADD http://example.com/ ."), /does not know this instruction: ADD/],
    ["another base image", uploadDirectory({ Dockerfile: `FROM node:20.0.0-alpine\nCMD ["x"]\n` }), /no other image/],
    ["no Dockerfile", uploadDirectory({ "main.mjs": "" }), /The upload has no Dockerfile/],
    ["a CMD in the shell form", uploadDirectory({ Dockerfile: `${from}\nCMD node main.mjs\n` }), /CMD node main\.mjs/],
  ])("%s fails the deployment, and its log says why", async (_, directory, said) => {
    const { upload } = await startService();
    const deployment = await upload("pdf", directory);
    await until(deployment, "FAILED");
    expect(written(deployment, "buildLog")).toMatch(said);
    expect(deployment.deploymentLog).toEqual([]);
  });

  test("a container that is never healthy fails the deployment, after its restarts", async () => {
    const { upload } = await startService();
    const deployment = await upload("pdf", image(`console.log("try"); process.exit(1)`));
    await until(deployment, "FAILED");
    expect(deployment.deploymentLog.filter(({ message }) => message === "try")).toHaveLength(2);
  });

  test("one that ends later is started again, and crashes when it does so too often", async () => {
    const { upload } = await startService();
    const deployment = await upload("pdf", image(program(`setTimeout(() => process.exit(9), 1000)`)));
    await until(deployment, "SUCCESS");
    await until(deployment, "CRASHED");
    expect(deployment.deploymentLog.filter(({ message }) => message === "hello")).toHaveLength(2);
    expect(deployment.replicas).toMatchObject([{ status: "CRASHED" }]);
  });

  test("a container that ignores SIGTERM is killed after its drain time", async () => {
    const { fake, upload } = await startService({ drainingSeconds: 0 });
    const deployment = await upload("pdf", image(program().replace("process.exit(0)", "{}")));
    await until(deployment, "SUCCESS");
    fake.operator.remove(deployment.id);
    await until(deployment, "REMOVED");
    expect(identifyProcess(self(deployment).pid)).toBeUndefined();
  });
});

test("layers that several images begin with are made once, also by two at the same time", async () => {
  const { fake, upload, directory } = await startService();
  fake.operator.createService("mail");
  Object.assign(fake.operator.instance("mail").settings, settings);
  const files = (name: string) => ({
    Dockerfile:
      `${from}\nRUN date +%N > ~/made\nWORKDIR /home/node\nCOPY . .\nRUN cat made name\nCMD ["node", "main.mjs"]\n`,
    "main.mjs": program(),
    name: `\nfor ${name}\n`,
  });
  const deployments = [
    await upload("pdf", uploadDirectory(files("pdf"))),
    await upload("mail", uploadDirectory(files("mail"))),
  ];
  for (const deployment of deployments) await until(deployment, "SUCCESS");
  const built = deployments.map((deployment) => written(deployment, "buildLog"));
  expect(built.map((log) => /for \w+/.exec(log)?.[0])).toEqual(["for pdf", "for mail"]);
  const made = built.map((log) => /^\d+(?= )/m.exec(log)?.[0]);
  expect(made[0]).toBeDefined();
  expect(made[1]).toBe(made[0]);
  // FROM and the shared step, and one image each.
  expect(readdirSync(join(directory, "images"))).toHaveLength(4);
});

test("a Dockerfile is read with its comments and its continued lines", () => {
  const parsed = parseDockerfile(`# a\n  # b\n${from}\nRUN one && \\\n  two\nCMD ["a", "b c"]\n`);
  expect(parsed).toMatchObject([{ kind: "FROM" }, { kind: "RUN", command: "one &&    two" }, {
    command: ["a", "b c"],
  }]);
});
