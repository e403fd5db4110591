import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { buildManifest } from "../../supabase/functions/_shared/build-manifest.ts";
import { startLoadDeployer } from "../bench/start-program.ts";
import { fleetService } from "../support/fleet.ts";
import { eventually } from "../support/services.ts";
import { useFleetClone } from "./clone.ts";

const DEPLOYMENTS = 5000;
/** About 10 kB each, as JSON. */
const workflows = Array.from({ length: 20 }, (_, number) => ({
  name: `workflow${number}`,
  activities: Array.from({ length: 20 }, (__, step) => `activity${number}WithAName${step}`),
}));
/** All that it may keep: what it has once done with is then soon collected, and what it holds on to ends it. */
const HEAP_MIB = 64;
const MOST_MIB = 320;

const fleet = useFleetClone("osp_memory");

test("a deployer that works through thousands of deployments beside years of history stays small", async () => {
  const client = await fleet.connect();
  await client.query(`set session_replication_role = replica`);
  for (let number = 0; number < DEPLOYMENTS; number++) {
    const service_schema = fleetService(number * 10 + 7);
    const spec = { service_schema, service_name: "A Service", workflows, options: {} };
    const { manifest, sha256 } = await buildManifest(spec, 11, { activityEndpoint: "https://osp.example/{activity}" });
    await client.query(
      `insert into osp_metadata.worker_registry (service_schema, manifest_path, revision, source, spec, manifest, manifest_sha256)
      values ($1, 'manifests/' || $1 || '.json', 11, 'update', $2, $3, $4)`,
      [service_schema, JSON.stringify(spec), JSON.stringify(manifest), sha256],
    );
  }

  const deployer = startLoadDeployer(fleet.deployerUrl(), {
    OSP_CONCURRENCY: "100",
    OSP_RECONCILE_SECONDS: "5",
    NODE_OPTIONS: `--max-old-space-size=${HEAP_MIB}`,
  });
  try {
    const deployed = `select count(*)::integer as count from osp_metadata.worker_registry
      where deployment_status = 'deployed' and revision = 11 and created_at > now() - interval '1 hour'`;
    await eventually(
      async () => (await client.query(deployed)).rows[0].count,
      (count) => count === DEPLOYMENTS,
      150_000,
    );
    expect(peakMib(deployer.pid)).toBeLessThan(MOST_MIB);
  } finally {
    await deployer.stop();
  }
  // In bites that it can hold, never all that waits.
  expect(deployer.batches.reduce((sum, claimed) => sum + claimed, 0)).toBe(DEPLOYMENTS);
  expect(Math.max(...deployer.batches)).toBeLessThanOrEqual(100);
});

/** The most that a process has held, shared libraries included. */
function peakMib(pid: number): number {
  const kilobytes = /^VmHWM:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1];
  return Number(kilobytes) / 1024;
}
