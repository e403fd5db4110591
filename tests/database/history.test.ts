import { beforeEach, describe, expect, test } from "vitest";
import type { Claim } from "../../deployer/claim.ts";
import { createRegistry, type Registry } from "../../deployer/registry.ts";
import { useDatabase } from "../support/database.ts";
import { createSqlQueue, createTestHandler, ring } from "../support/edge-function.ts";
import { clearServices, insertService, registryOf } from "../support/services.ts";

const database = useDatabase();
const handler = createTestHandler(database);
const pool = database.deployerPool(4);
const deployerNamed = (owner: string): Registry =>
  createRegistry(pool, { owner, platform: "local", leaseSeconds: 10, renewTimeoutMs: 5000 });
const [a, b, c] = [deployerNamed("host-a:1"), deployerNamed("host-b:2"), deployerNamed("host-c:3")];
const deployed = { outcome: "deployed", workerVersion: "1.0.0", serviceId: "s", platformDeploymentId: "d" } as const;
const failure = { class: "transient", code: "x", message: "it broke", facts: {} } as const;
beforeEach(() => clearServices(database));

const rename = (name: string) => database.rows(`update osp.services set service_name = $1`, [name]);
const history = () =>
  database.rows(
    `select *, waited + deploying_took = total_took as adds_up, extract(epoch from waited)::float8 as waited_seconds,
      extract(epoch from enqueuing_took)::float8 as enqueuing_seconds, extract(epoch from total_took)::float8 as total_seconds
    from osp_metadata.deployment_history order by revision`,
  );
/** Seconds ago, by the database's clock. */
const requestedBefore = (seconds: number) =>
  database.rows(`update osp_metadata.service_intents set requested_at = requested_at - make_interval(secs => $1)`, [
    seconds,
  ]);

async function claimOf(registry: Registry): Promise<Claim> {
  const [claim] = await registry.claim(1);
  if (claim === undefined) throw new Error("nothing to claim");
  return claim;
}

describe("durations begin with the request", () => {
  test("of a deployment that serves", async () => {
    await insertService(database, "s");
    await requestedBefore(60);
    await handler(ring());
    await a.settle(await claimOf(a), deployed);
    const [row] = await history();
    expect(row).toMatchObject({ adds_up: true, attempts: 1, deployers: ["host-a:1"], ended_at: null });
    for (const duration of ["enqueuing_seconds", "waited_seconds", "total_seconds"]) {
      expect(row?.[duration]).toBeGreaterThanOrEqual(60);
      expect(row?.[duration]).toBeLessThan(120);
    }
    expect(row?.["requested_at"]).toEqual(
      (await database.rows<{ at: Date }>(`select requested_at as at from osp_metadata.service_intents`))[0]?.at,
    );
  });

  test("of one that failed: until the end of its last attempt", async () => {
    await insertService(database, "s");
    await requestedBefore(60);
    await handler(ring());
    await a.settle(await claimOf(a), { outcome: "retry", failure, delaySeconds: 0 });
    await b.settle(await claimOf(b), { outcome: "failed", failure });
    const [row] = await history();
    expect(row).toMatchObject({ adds_up: true, attempts: 2, deployers: ["host-a:1", "host-b:2"], deployed_at: null });
    const [last] = await database.rows<{ ended_at: Date }>(
      `select max(ended_at) as ended_at from osp_metadata.deployment_attempts`,
    );
    expect(row?.["ended_at"]).toEqual(last?.ended_at);
  });

  test("of one that was never claimed there is none, and it ended when it was superseded", async () => {
    await insertService(database, "s");
    await handler(ring());
    await rename("Two");
    await handler(ring());
    expect(await history()).toMatchObject([
      {
        waited: null,
        deploying_took: null,
        total_took: null,
        attempts: 0,
        deployers: null,
        ended_at: expect.any(Date),
      },
      { ended_at: null },
    ]);
  });

  test("of one that was edited between take and enqueue: with its own request", async () => {
    await insertService(database, "s");
    await requestedBefore(60);
    const queue = createSqlQueue(database);
    const taken = await queue.take();
    await rename("Two");
    await queue.enqueue(taken);
    await handler(ring());
    const [older, newer] = await history();
    expect(older?.["enqueuing_seconds"]).toBeGreaterThanOrEqual(60);
    expect(newer?.["enqueuing_seconds"]).toBeLessThan(60);
  });

  test("of one that was enqueued before requests were recorded: with its being enqueued", async () => {
    await insertService(database, "s");
    await handler(ring());
    await a.settle(await claimOf(a), deployed);
    await database.rows(`update osp_metadata.worker_registry set requested_at = null`);
    expect(await history()).toMatchObject([{ adds_up: true, enqueuing_took: null, requested_at: null }]);
  });
});

describe("every attempt ends, and says who held it", () => {
  const attempts = () =>
    database.rows(
      `select revision, attempt, deployer, outcome, error_message, ended_at is null as goes_on
      from osp_metadata.deployment_attempts order by id`,
    );
  const goesAway = () =>
    database.rows(
      `update osp_metadata.worker_registry set lease_expires_at = clock_timestamp() where lease_token is not null`,
    );
  const abandoned = (deployer: string, revision = 1) => ({
    revision,
    attempt: 1,
    deployer,
    outcome: "abandoned",
    error_message: `Deployer ${deployer} went away`,
    goes_on: false,
  });
  const ended = (deployer: string, outcome: string, revision = 1) => ({
    revision,
    attempt: 1,
    deployer,
    outcome,
    error_message: null,
    goes_on: false,
  });
  beforeEach(async () => {
    await insertService(database, "s");
    await handler(ring());
  });

  test("where several deployers went away one after the other", async () => {
    for (const registry of [a, b]) {
      await claimOf(registry);
      await goesAway();
    }
    const claim = await claimOf(c);
    expect(claim.abandoned).toBe(2);
    await c.settle(claim, deployed);
    expect(await attempts()).toEqual([
      abandoned("host-a:1"),
      abandoned("host-b:2"),
      ended("host-c:3", "deployed"),
    ]);
    const [row] = await registryOf(database, "s");
    expect(row?.logs).toMatch(
      /claimed by host-b:2: deployer host-a:1 went away\n.*claimed by host-c:3: deployer host-b:2/,
    );
  });

  test("where it was superseded while its deployer was away", async () => {
    await claimOf(a);
    await rename("Two");
    await handler(ring());
    expect(await b.claim(5)).toEqual([]); // the lease still runs
    await goesAway();
    const [claim] = await b.claim(5);
    expect(claim).toMatchObject({ revision: 1, is_superseded: true });
    if (claim) await b.settle(claim, { outcome: "superseded" });
    await b.settle(await claimOf(b), deployed);
    expect(await attempts()).toEqual([
      abandoned("host-a:1"),
      ended("host-b:2", "superseded"),
      ended("host-b:2", "deployed", 2),
    ]);
  });

  test.each([
    ["disabled", `update osp.services set enabled = false`],
    ["deleted", `delete from osp.services`],
  ])("where its service was %s while its deployer was away", async (_title, statement) => {
    await claimOf(a);
    await database.rows(statement);
    await handler(ring());
    await goesAway();
    await b.settle(await claimOf(b), { outcome: "superseded" });
    await b.settle(await claimOf(b), { outcome: "stopped" });
    expect(await attempts()).toEqual([
      abandoned("host-a:1"),
      ended("host-b:2", "superseded"),
      ended("host-b:2", "stopped", 2),
    ]);
    expect((await registryOf(database, "s")).map((row) => row.deployment_status)).toEqual(["stopped", "stopped"]);
  });

  test("where the deployer of a stop went away", async () => {
    await a.settle(await claimOf(a), deployed);
    await database.rows(`delete from osp.services`);
    await handler(ring());
    await claimOf(a);
    await goesAway();
    await b.settle(await claimOf(b), { outcome: "stopped" });
    expect(await attempts()).toEqual([
      ended("host-a:1", "deployed"),
      abandoned("host-a:1", 2),
      ended("host-b:2", "stopped", 2),
    ]);
  });
});
