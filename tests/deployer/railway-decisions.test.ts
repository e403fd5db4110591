import { describe, expect, test } from "vitest";
import type { Deployment } from "../../deployer/platforms/railway/answers.ts";
import { failureOfDeployment } from "../../deployer/platforms/railway/deployment-failure.ts";
import { isAlive, standingOf } from "../../deployer/platforms/railway/deployment-status.ts";
import {
  desiredSettings,
  desiredVariables,
  layoutOf,
  replicasOf,
  settingsToSet,
} from "../../deployer/platforms/railway/desired-service.ts";
import { logText } from "../../deployer/platforms/railway/read-logs.ts";
import { createRedact } from "../../deployer/platforms/railway/redact.ts";
import { serviceName } from "../../deployer/platforms/railway/service-name.ts";
import { findBegun } from "../../deployer/platforms/railway/upload-revision.ts";
import type { DeployRequest } from "../../deployer/platforms/platform.ts";
import { requestDefaults } from "../support/deploy-request.ts";
import { parseManifest } from "../../supabase/functions/_shared/manifest.ts";

const deployment = (status: string, id = "d1"): Deployment => ({
  ...{ id, status, createdAt: "2026-11-24T00:00:00Z", deploymentStopped: false, instances: [] },
});

test("a schema that fits is the service's name; a longer one is cut and told apart by a hash", () => {
  expect(serviceName("a".repeat(32))).toBe("a".repeat(32));
  const long = ["x", "y"].map((end) => serviceName(`${"a".repeat(62)}${end}`));
  expect(new Set(long).size).toBe(2);
  for (const name of long) expect(name).toMatch(/^a{19}-[0-9a-f]{12}$/);
});

test.each([
  ["QUEUED", "under_way", true],
  ["NEEDS_APPROVAL", "under_way", true],
  ["SOMETHING_NEW", "under_way", true],
  ["SUCCESS", "running", true],
  ["SLEEPING", "failed", true],
  ["CRASHED", "failed", false],
  ["FAILED", "failed", false],
  ["SKIPPED", "ended", false],
  ["REMOVING", "ended", false],
])("%s is %s", (status, standing, alive) => {
  expect(standingOf(deployment(status))).toBe(standing);
  expect(isAlive(deployment(status))).toBe(alive);
});

test("a running deployment whose containers have ended has failed, and says so where the worker does not", () => {
  const stopped = { ...deployment("SUCCESS"), deploymentStopped: true };
  expect(standingOf(stopped)).toBe("failed");
  expect(failureOfDeployment(stopped, { build: "", run: "" }, 300)).toMatchObject({
    class: "transient",
    code: "deployment_stopped",
  });
});

const exit = (code: number, problems: string[]) => JSON.stringify({ level: 50, event: "worker.exit", code, problems });

test.each([
  ["the worker's last word", "FAILED", { run: exit(78, ["a wrong path"]) }, "permanent", "worker_unusable"],
  [
    "the check while the image is built",
    "FAILED",
    { build: exit(78, ["no such export"]) },
    "permanent",
    "worker_unusable",
  ],
  ["Temporal away", "CRASHED", { run: exit(69, ["refused"]) }, "unavailable", "temporal_unreachable"],
  ["a broken worker", "CRASHED", { run: exit(70, ["a stack"]) }, "transient", "worker_exited"],
  [
    "a worker without a last word",
    "CRASHED",
    { run: '{"event":"worker.starting"}' },
    "permanent",
    "deployment_crashed",
  ],
  ["one that never polled", "FAILED", { run: '{"event":"worker.starting"}' }, "transient", "worker_not_ready"],
  [
    "one that waits for Temporal",
    "FAILED",
    { run: '{"event":"worker.connect_failed","address":"x:7233","reason":"refused"}' },
    "unavailable",
    "temporal_unreachable",
  ],
  ["a build that is wrong", "FAILED", { build: "npm error code EUSAGE" }, "permanent", "build_failed"],
  ["a build cut off", "FAILED", { build: "npm error network ETIMEDOUT" }, "transient", "build_interrupted"],
  ["a service asleep", "SLEEPING", {}, "permanent", "deployment_sleeping"],
])("%s decides what follows", (_, status, logs, errorClass, code) => {
  const error = failureOfDeployment(deployment(status), { build: "", run: "", ...logs }, 300);
  expect(error).toMatchObject({ class: errorClass, code });
});

test("a worker's line that Railway took apart is put together again", () => {
  const line = (timestamp: string, message: string, attributes: Record<string, string> = {}) => ({
    timestamp,
    message,
    attributes: Object.entries(attributes).map(([key, value]) => ({ key, value })),
  });
  const text = logText([
    line("2026-11-24T00:00:02Z", "", {
      event: '"worker.exit"',
      code: "78",
      problems: '["no such file"]',
      level: "error",
    }),
    line("2026-11-24T00:00:01Z", "Starting Container"),
    line("2026-11-24T00:00:01.5Z", '{"event":"worker.starting"}', { level: "info" }),
  ]);
  expect(text.split("\n")).toEqual([
    "Starting Container",
    '{"event":"worker.starting"}',
    '{"event":"worker.exit","code":78,"problems":["no such file"],"level":"error"}',
  ]);
});

const settings = {
  ...{ instance: "i", variables: { TEMPORAL_ADDRESS: "t:7233" }, drainSeconds: 30, overlapSeconds: 10 },
  ...{ healthcheckSeconds: 300, replicas: 1, restartPolicy: "ON_FAILURE" as const, restartRetries: 10 },
};

const deployedIn = (regions: Record<string, number>): Deployment => {
  const multiRegionConfig = Object.fromEntries(
    Object.entries(regions).map(([region, numReplicas]) => [region, { numReplicas }]),
  );
  return { ...deployment("SUCCESS"), meta: { serviceManifest: { deploy: { multiRegionConfig } } } };
};

describe("settings of a service", () => {
  const desired = desiredSettings(settings);
  const actual = { ...desired, serviceName: "s", numReplicas: null, latestDeployment: null, activeDeployments: [] };

  test("that are as they should be stay alone", () => {
    expect(settingsToSet(settings, actual)).toBeUndefined();
    expect(settingsToSet({ ...settings, replicas: 2 }, { ...actual, numReplicas: 2 })).toBeUndefined();
    const latestDeployment = deployedIn({ west: 1, east: 2 });
    expect(settingsToSet({ ...settings, replicas: undefined }, { ...actual, latestDeployment })).toBeUndefined();
  });

  test("are set all together when one differs, replicas by region among them", () => {
    expect(settingsToSet(settings, undefined)).toEqual({ ...desired, numReplicas: 1 });
    const changed = { ...actual, healthcheckPath: null };
    expect(settingsToSet(settings, changed)).toEqual({ ...desired, numReplicas: 1 });
    const latestDeployment = deployedIn({ west: 1, east: 2 });
    expect(settingsToSet({ ...settings, replicas: undefined }, { ...changed, latestDeployment })).toEqual({
      ...desired,
      multiRegionConfig: { west: { numReplicas: 1 }, east: { numReplicas: 2 } },
    });
  });

  test("replicas that somebody set by region are brought to what the operator wants", () => {
    const latestDeployment = deployedIn({ west: 3 });
    expect(settingsToSet({ ...settings, replicas: 1 }, { ...actual, numReplicas: 1, latestDeployment })).toEqual({
      ...desired,
      multiRegionConfig: { west: { numReplicas: 1 } },
    });
  });

  test.each<[string, number | undefined, number | undefined, string | null | undefined, number | undefined]>([
    ["the row's", 3, 2, undefined, 3],
    ["the operator's, where the row says nothing", undefined, 2, undefined, 2],
    ["the operator's, where the row says nothing any more", undefined, 2, "3", 2],
    ["one, where nobody says anything any more", undefined, undefined, "3", 1],
    ["as somebody set them, where nobody ever said anything", undefined, undefined, "none", undefined],
    ["as somebody set them, on a service of before", undefined, undefined, undefined, undefined],
  ])("replicas are %s", (_, ofRow, ofOperator, before, expected) => {
    const { options, ...rest } = manifest;
    const request = { manifest: { ...rest, options: { ...options, replicas: ofRow } } };
    expect(replicasOf(request, ofOperator, before === undefined ? undefined : { OSP_REPLICAS: before })).toBe(expected);
  });

  test("a deployment that tells no regions has none", () => {
    expect(layoutOf({ ...deployment("SUCCESS"), meta: { reason: "deploy" } })).toBeUndefined();
    expect(layoutOf(null)).toBeUndefined();
  });
});

const manifest = parseManifest("of the test", {
  service_schema: "s",
  service_name: "S",
  activities_path: "./service/activities.ts",
  workflows: [{ name: "w", task_queue: "s-tasks", workflows_path: "./service/workflows.ts", activities: ["a"] }],
});

interface Case {
  known: string | undefined;
  previous: string;
  latest: string;
  status?: string;
  row?: string;
  rejected?: string[];
}

test.each<[string, Case, { id: string; isCertain: boolean } | undefined]>([
  ["the one that was written down", { known: "d2", previous: "d1", latest: "d2" }, { id: "d2", isCertain: true }],
  ["one whose answer was lost", { known: undefined, previous: "d1", latest: "d2" }, { id: "d2", isCertain: false }],
  ["one whose answer was lost, after another that failed", { known: "d1", previous: "d1", latest: "d2" }, {
    ...{ id: "d2", isCertain: false },
  }],
  ["the one from before", { known: undefined, previous: "d1", latest: "d1" }, undefined],
  ["one that came after ours", { known: "d2", previous: "d1", latest: "d3" }, undefined],
  ["one that has ended", { known: "d2", previous: "d1", latest: "d2", status: "FAILED" }, undefined],
  [
    "one that an earlier attempt found unfit",
    { known: "d2", previous: "d1", latest: "d2", rejected: ["d2"] },
    undefined,
  ],
  ["one of another row", { known: undefined, previous: "d1", latest: "d2", row: "other" }, undefined],
])(
  "which deployment an attempt goes on with: %s",
  (_, { known, previous, latest, status = "SUCCESS", row = "row", rejected = [] }: Case, expected) => {
    const request: DeployRequest = {
      ...{ serviceSchema: "s", revision: 2, deploymentId: "row", directory: "", manifest },
      ...requestDefaults(),
      known: { serviceId: "svc", deploymentId: known, rejectedDeploymentIds: rejected, mayBeDouble: false },
    };
    const found = {
      serviceInstance: {
        ...desiredSettings(settings),
        ...{ serviceName: "s", numReplicas: 1, activeDeployments: [], latestDeployment: deployment(status, latest) },
      },
      variables: {
        ...desiredVariables({ ...request, deploymentId: row }, settings, previous),
        RAILWAY_SERVICE_ID: "x",
      },
    };
    expect(findBegun(request, { id: "svc", found }, settings)).toEqual(expected);
  },
);

test("a secret is taken out of a text in every form, the longest first", () => {
  const redact = createRedact(["tok/en+1", 'with "quotes"', "tok/en+1 and more", "abc"]);
  expect(redact('tok/en+1 and more, tok/en+1, tok%2Fen%2B1, "with \\"quotes\\"", abc')).toBe(
    '***, ***, ***, "***", abc',
  );
});

test("a secret of several lines is known when its lines are joined", () => {
  const redact = createRedact(["-----BEGIN KEY-----\nMIIE\n-----END KEY-----\n"]);
  expect(redact("bad: -----BEGIN KEY----- MIIE -----END KEY-----")).toBe("bad: ***");
});
