import { beforeAll, describe, expect, inject, test } from "vitest";
import type { Claim } from "../../deployer/claim.ts";
import { createRegistry } from "../../deployer/registry.ts";
import { letWait, NOISY_SERVICE } from "../support/fleet.ts";
import { openExplained, type Plan, type Reading, readingOf } from "./plans.ts";

/** What one of these statements may read: 8 KiB blocks and rows, whatever number of rows there are and wait. */
const bounds: Record<string, { blocks: number; rows: number }> = {
  // Asked every few seconds, and mostly there is nothing.
  // Its index holds what waited until the next vacuum; the table has some thousand blocks.
  "counts intents while none waits": { blocks: 500, rows: 5 },
  "looks for a claim while none waits": { blocks: 100, rows: 5 },
  "looks when the next lease runs out": { blocks: 100, rows: 5 },
  "finds nothing to prune while everything is kept": { blocks: 1000, rows: 10 },
  "prunes the next services": { blocks: 60_000, rows: 20_000 },
  "takes the turn to look after workers": { blocks: 100, rows: 5 },
  "claims ten rows": { blocks: 1500, rows: 150 },
  // Each with its attempts, and with the one that its deployer may not have written down.
  "takes over ten rows that a deployer left": { blocks: 2500, rows: 400 },
  "claims under a limit of the platform": { blocks: 1500, rows: 150 },
  "asks whether a deployment is open": { blocks: 100, rows: 4 },
  "renews ten leases": { blocks: 250, rows: 40 },
  "reports on ten attempts": { blocks: 700, rows: 80 },
  "remembers an id": { blocks: 100, rows: 4 },
  "settles ten attempts": { blocks: 800, rows: 120 },
  "settles one attempt of a service with thousands of revisions": { blocks: 100, rows: 12 },
  "takes fifty intents": { blocks: 8000, rows: 600 },
  "enqueues fifty deployments, which supersede others": { blocks: 5000, rows: 1200 },
  "gives fifty intents back": { blocks: 1000, rows: 150 },
};

/** Services that wait for a deployer, and with a newer revision for the Edge Function. */
const WAITING = 10_000;

describe.each([
  { statistics: "from before anything waited", isAnalyzed: false },
  { statistics: "that know what waits", isAnalyzed: true },
])("statistics $statistics", ({ isAnalyzed }) => {
  describe.each([{ plans: "auto" }, { plans: "force_generic_plan" }])("plan_cache_mode $plans", ({ plans: mode }) => {
    let readings: Map<string, Reading>;
    beforeAll(async () => {
      readings = await workInDeployersDay(mode, isAnalyzed);
    });

    test.each(Object.entries(bounds))("%s by index, as much as it needs", (step, { blocks, rows }) => {
      const reading = readings.get(step);
      expect(reading).toMatchObject({ scanned: [], tempBlocks: 0 });
      expect(reading?.rows, "rows looked at").toBeLessThanOrEqual(rows);
      expect(reading?.blocks, "blocks read").toBeLessThanOrEqual(blocks);
    });
  });
});

/** All of it in one transaction that is rolled back: the next one finds the fleet as it was. */
async function workInDeployersDay(mode: string, isAnalyzed: boolean): Promise<Map<string, Reading>> {
  const session = await openExplained(inject("fleetUrl"), "postgres", { plan_cache_mode: mode });
  const { client } = session;
  const readings = new Map<string, Reading>();
  const step = async (name: string, work: () => Promise<unknown>) => {
    const plans: Plan[] = await session.plansOf(work);
    readings.set(name, readingOf(plans));
  };
  try {
    await client.query(`begin`);
    // A sample of its own each time: one plan or the other may look cheaper by chance, and none may be dear.
    const analyze = () => client.query(`analyze osp_metadata.worker_registry, osp_metadata.service_intents`);
    if (!isAnalyzed) await analyze();
    const registry = createRegistry(client, {
      owner: "a",
      platform: "railway",
      leaseSeconds: 60,
      renewTimeoutMs: 60_000,
    });
    await client.query(`set local role osp_deployer`);
    await step("counts intents while none waits", () => registry.countWaitingIntents(5));
    await step("looks for a claim while none waits", () => registry.claim(10));
    await step("looks when the next lease runs out", () => registry.nextExpiryMs());
    await step("finds nothing to prune while everything is kept", () => registry.prune());
    await step(
      "takes the turn to look after workers",
      () => client.query(`select osp_metadata.take_health_turn('railway', 60)`),
    );
    await client.query(`reset role; update osp_metadata.retention set keep_days = 90, keep_revisions = 5`);
    await client.query(`set local role osp_deployer`);
    await step("prunes the next services", () => registry.prune());

    await client.query(`reset role; set local session_replication_role = replica`);
    await letWait(client, WAITING);
    await client.query(`set local session_replication_role = origin`);
    if (isAnalyzed) await analyze();
    await client.query(`set local role osp_deployer`);
    const deployed = { outcome: "deployed", workerVersion: "1", serviceId: "s", platformDeploymentId: "d" } as const;
    // A plan that is kept is made from the sixth time on.
    for (let time = 0; time < 6; time++) await registry.claim(1);
    let claims: Claim[] = [];
    await step("claims ten rows", async () => (claims = await registry.claim(10)));
    const noisy = claims.find((claim) => claim.service_schema === NOISY_SERVICE);
    const others = claims.filter((claim) => claim !== noisy);
    const [other] = others;
    if (noisy === undefined || other === undefined) throw new Error("The claim has left the noisy service out");
    await step("renews ten leases", () => registry.renew(claims.map((claim) => claim.lease_token)));
    await step(
      "reports on ten attempts",
      () => Promise.all(claims.map((claim) => registry.report(claim, "deploying", "a line"))),
    );
    await step("asks whether a deployment is open", () => registry.isOpen(other));
    await step("remembers an id", () => registry.remember(other, { serviceId: "s" }));
    await step("settles ten attempts", () => Promise.all(others.map((claim) => registry.settle(claim, deployed))));
    await step("settles one attempt of a service with thousands of revisions", () => registry.settle(noisy, deployed));

    const left = (await registry.claim(10)).map((claim) => claim.lease_token);
    await client.query(
      `update osp_metadata.worker_registry set lease_expires_at = now() - interval '1 second' where lease_token = any ($1)`,
      [left],
    );
    await step(
      "takes over ten rows that a deployer left",
      async () => expect(await registry.claim(10)).toHaveLength(10),
    );
    await client.query(`reset role; update osp_metadata.platforms set concurrency_limit = 30 where name = 'railway'`);
    await client.query(`set local role osp_deployer`);
    await step("claims under a limit of the platform", async () => expect(await registry.claim(10)).toHaveLength(10));

    await client.query(`reset role; set local role service_role`);
    const take = async () => (await client.query(`select * from osp_metadata.take_intents()`)).rows;
    const enqueue = (taken: unknown[]) =>
      client.query(`select * from osp_metadata.enqueue_deployments($1)`, [JSON.stringify(taken)]);
    for (let time = 0; time < 6; time++) await enqueue(await take());
    let taken: unknown[] = [];
    await step("takes fifty intents", async () => (taken = await take()));
    expect(taken).toHaveLength(50);
    await step("enqueues fifty deployments, which supersede others", () => enqueue(taken));
    const again: { lease_token: string; service_schema: string }[] = await take();
    await step("gives fifty intents back", () =>
      client.query(`select osp_metadata.release_intents($1, $2)`, [
        again[0]?.lease_token,
        again.map((intent) => intent.service_schema),
      ]));
    return readings;
  } finally {
    await client.query(`rollback`);
    // What was rolled back lies in the indexes' pages still, and would be counted against the next one. By default a vacuum
    // leaves them be for so few rows.
    await client.query(`vacuum (analyze, index_cleanup on) osp_metadata.worker_registry, osp_metadata.service_intents`);
    await session.close();
  }
}
