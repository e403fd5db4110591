import { existsSync } from "node:fs";
import { pino } from "pino";
import { afterAll, beforeEach, describe, expect, test } from "vitest";
import { attempt } from "../../deployer/attempt.ts";
import type { Platform } from "../../deployer/platforms/platform.ts";
import { platformReadiness } from "../../deployer/readiness/readiness.ts";
import type { Claim } from "../../deployer/claim.ts";
import { createRegistry } from "../../deployer/registry.ts";
import { createScratch } from "../../deployer/scratch.ts";
import { verifyManifest } from "../../deployer/verify-manifest.ts";
import { canonicalJson, sha256Hex } from "../../supabase/functions/_shared/canonical-json.ts";
import { visible } from "../../supabase/functions/_shared/visible-text.ts";
import { useDatabase } from "../support/database.ts";
import { idle } from "../support/deploy-request.ts";
import { createTestHandler, ring } from "../support/edge-function.ts";
import { manifestCases } from "../support/hostile-manifests.ts";
import { insertService, registryOf } from "../support/services.ts";
import { plainStaging } from "../support/staging.ts";

// A registry in which somebody with the owner's rights changed a manifest by hand, its hash along with it.
const database = useDatabase();
const registry = createRegistry(database.deployerPool(2), {
  owner: "a:1",
  platform: "local",
  leaseSeconds: 30,
  renewTimeoutMs: 5000,
});
const scratch = createScratch();
afterAll(() => scratch.close());
beforeEach(async () => {
  await database.rows(`truncate osp.services, osp_metadata.service_intents, osp_metadata.worker_registry cascade`);
});

function claimOf(manifest: unknown, manifest_sha256: string): Claim {
  return {
    ...{ id: "b83966ce-0000-4000-8000-000000000000", service_schema: "demo", revision: 1, source: "insert" },
    ...{ manifest, manifest_sha256, manifest_path: "manifests/demo.json" },
    ...{ known_service_id: null, known_deployment_id: null, lease_token: "", is_superseded: false },
    ...{ attempt: 1, deferrals: 0, abandoned: 0, rejected_deployment_ids: [], has_served: false },
  };
}

describe("a manifest from the registry, with a hash that is right", () => {
  test.each(manifestCases)("$title", async ({ text, refused }) => {
    const manifest: unknown = JSON.parse(text);
    const sha256 = await Promise.resolve(manifest).then(canonicalJson).then(sha256Hex).catch(() =>
      "none can be computed"
    );
    const verified = verifyManifest(claimOf(manifest, sha256));
    const { service_schema } = Object(manifest);
    if (refused === undefined && service_schema === "demo") {
      expect(await verified).toMatchObject({ service_schema: "demo" });
      return;
    }
    const error: unknown = await verified.catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ class: "permanent", code: expect.stringMatching(/^manifest_(invalid|mismatch)$/) });
    const { message } = Object(error);
    expect(message).toBe(visible(message));
    expect(message.length).toBeLessThan(15_000);
  });
});

/** One claimed deployment, after somebody changed its row. */
async function claimAfter(change: string, values: unknown[] = []) {
  await insertService(database, "demo");
  await createTestHandler(database)(ring());
  await database.rows(`update osp_metadata.worker_registry set ${change}`, values);
  const [claim] = await registry.claim(1);
  if (claim === undefined) throw new Error("There was nothing to claim");
  return claim;
}

async function attemptOn(deploy: Platform["deploy"], claim: Claim) {
  const refuse = () => Promise.reject(new Error("not to be called"));
  const platform: Platform = { name: "local", deploy, stop: refuse, remove: refuse, list: () => Promise.resolve([]) };
  const rules = { maxAttempts: 3, retrySeconds: 0, retryCapSeconds: 0, deferSeconds: 0, deferCapSeconds: 0 };
  const deps = {
    registry,
    platform,
    readiness: platformReadiness,
    rules,
    staging: plainStaging(scratch),
    idle,
    log: pino({ level: "silent" }),
  };
  await attempt(claim, deps, new AbortController().signal);
  return (await registryOf(database, "demo"))[0];
}

const notToBeCalled = () => Promise.reject(new Error("not to be called"));

test.each([
  ["another service", { service_schema: "somebody_else" }, /of service "somebody_else" revision 1/],
  ["another revision", { revision: 7 }, /of service "demo" revision 7/],
])("a manifest of %s, with its hash, fails at once and tells whose it is", async (_, changes, reason) => {
  const [{ manifest } = {}] = await claimAfter("logs = null").then(() =>
    database.rows<{ manifest: object }>(`select manifest from osp_metadata.worker_registry`)
  );
  const changed = { ...manifest, ...changes };
  await database.rows(`truncate osp.services, osp_metadata.service_intents, osp_metadata.worker_registry cascade`);
  const claim = await claimAfter("manifest = $1, manifest_sha256 = $2", [
    JSON.stringify(changed),
    await sha256Hex(canonicalJson(changed)),
  ]);
  expect(await attemptOn(notToBeCalled, claim)).toMatchObject({
    deployment_status: "failed",
    retry_count: 0,
    error_code: "manifest_mismatch",
    error_message: expect.stringMatching(reason),
  });
});

test("a manifest nested 5,000 deep fails at once, instead of ending with the stack", async () => {
  const claim = await claimAfter("manifest = $1", [`{"a":${"[".repeat(5000)}${"]".repeat(5000)}}`]);
  expect(await attemptOn(notToBeCalled, claim)).toMatchObject({
    deployment_status: "failed",
    retry_count: 0,
    error_code: "manifest_invalid",
    error_message: expect.stringContaining("nested more than 100 deep"),
  });
});

test.each([
  "../../../../tmp/osp-escaped.json",
  "/tmp/osp-escaped.json",
  "manifests/../../osp-escaped.json",
  "a\u001b[2J",
])(
  "manifest_path %j is refused, and nothing is written there",
  async (path) => {
    const claim = await claimAfter("manifest_path = $1", [path]);
    const row = await attemptOn(notToBeCalled, claim);
    expect(row).toMatchObject({ deployment_status: "failed", retry_count: 0, error_code: "manifest_mismatch" });
    expect(row?.error_message).toBe(visible(row?.error_message ?? ""));
    expect(existsSync("/tmp/osp-escaped.json")).toBe(false);
  },
);
