import type pg from "pg";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { Claim } from "../../deployer/claim.ts";
import { createRegistry, type Registry } from "../../deployer/registry.ts";
import { useFleetClone } from "./clone.ts";
import { openExplained, readingOf } from "./plans.ts";

/** Of each deployment four: enqueued, claimed, settled, and the one before it replaced. */
const STATUS_CHANGES = 100_000;
const DEPLOYMENTS = STATUS_CHANGES / 4;
const BATCH = 100;
const deployed = { outcome: "deployed", workerVersion: "1", serviceId: "s", platformDeploymentId: "d" } as const;
const settings = { owner: "a", platform: "railway", leaseSeconds: 600, renewTimeoutMs: 60_000 };

const fleet = useFleetClone("osp_churn");
let client: pg.Client;
let session: Awaited<ReturnType<typeof openExplained>>;
let hot: { updates: number; hot: number };
let lastAdded = "";

beforeAll(async () => {
  client = await fleet.connect();
  await client.query(`set session_replication_role = replica`); // the fleet's intents are not what is measured
  const before = await updatesOf(client);
  const registry = createRegistry(client, settings);
  for (let done = 0; done < DEPLOYMENTS; done += BATCH) await deploySome(registry);
  const after = await updatesOf(client);
  hot = { updates: after.updates - before.updates, hot: after.hot - before.hot };
  // Nobody has vacuumed: the server has its autovacuum off.
  const { rows: [{ vacuumed }] } = await client.query(
    `select vacuum_count + autovacuum_count > 1 as vacuumed from pg_stat_user_tables where relname = 'worker_registry'`,
  );
  expect(vacuumed).toBe(false);
  session = await openExplained(fleet.url(), "osp_deployer");
});
afterAll(async () => {
  await session?.close();
});

/** A hundred newest revisions through a deployer's hands, with two renewals and two lines each. */
async function deploySome(registry: Registry): Promise<void> {
  await addPending(BATCH);
  const claims = await registry.claim(BATCH);
  expect(claims).toHaveLength(BATCH);
  for (const step of ["deploying", "readiness"]) {
    await registry.renew(claims.map((claim) => claim.lease_token));
    await Promise.all(claims.map((claim) => registry.report(claim, step, `attempt 1: ${step}`)));
  }
  await Promise.all(claims.map((claim) => registry.settle(claim, deployed)));
}

/** Next revisions of services that run, so that each replaces one; the next services every time. */
async function addPending(count: number): Promise<void> {
  const { rows } = await client.query(
    `insert into osp_metadata.worker_registry (service_schema, manifest_path, revision, source, spec, manifest, manifest_sha256, logs)
    select r.service_schema, r.manifest_path, r.revision + 1, 'update', r.spec, r.manifest, r.manifest_sha256, 'a line'
    from osp_metadata.worker_registry as r
    where
      r.deployment_status = 'deployed' and r.service_schema > $1
      and not exists (
        select from osp_metadata.worker_registry as n where n.service_schema = r.service_schema and n.revision > r.revision
      )
    order by r.service_schema
    limit $2
    returning service_schema`,
    [lastAdded, count],
  );
  lastAdded = rows.at(-1).service_schema;
}

async function updatesOf(of: pg.Client): Promise<{ updates: number; hot: number }> {
  await of.query(`select pg_stat_force_next_flush()`);
  const { rows: [row] } = await of.query(
    `select n_tup_upd::integer as updates, n_tup_hot_upd::integer as hot from pg_stat_user_tables where relname = 'worker_registry'`,
  );
  return row;
}

test("most of what changes no status stays in its page and writes to no index", () => {
  // Of a deployment four updates change none: two renewals and two lines. Three do: claimed, settled, replaced.
  expect(hot.updates).toBeGreaterThanOrEqual(DEPLOYMENTS * 7);
  expect(hot.hot / (DEPLOYMENTS * 4)).toBeGreaterThan(0.7);
});

test("claims, renewals and settlements read as little as before, with nothing vacuumed", async () => {
  const registry = createRegistry(session.client, settings);
  await addPending(10);
  let claims: Claim[] = [];
  const claiming = readingOf(await session.plansOf(async () => claims = await registry.claim(10)));
  const [claim] = claims;
  if (claim === undefined) throw new Error("Nothing was claimed");
  const renewing = readingOf(await session.plansOf(() => registry.renew([claim.lease_token])));
  const settling = readingOf(await session.plansOf(() => registry.settle(claim, deployed)));
  const looking = readingOf(await session.plansOf(() => registry.claim(10)));
  for (const reading of [claiming, renewing, settling, looking]) expect(reading.scanned).toEqual([]);
  expect(claiming.blocks).toBeLessThan(3000);
  expect(looking.blocks).toBeLessThan(2000);
  expect(renewing.blocks).toBeLessThan(60);
  expect(settling.blocks).toBeLessThan(200);
});
