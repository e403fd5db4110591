import { beforeEach, describe, expect, onTestFinished, test } from "vitest";
import { createPlatformRegistry } from "../../deployer/platform-registry.ts";
import { createRegistry } from "../../deployer/registry.ts";
import { useDatabase } from "../support/database.ts";
import { createTestHandler, ring } from "../support/edge-function.ts";
import { clearServices, insertService, registryOf } from "../support/services.ts";
import { functions } from "./access-cases.ts";

const database = useDatabase();
const handler = createTestHandler(database);
const pool = database.deployerPool(4);
const deployer = createRegistry(pool, { owner: "a", platform: "local", leaseSeconds: 10, renewTimeoutMs: 5000 });
const platform = createPlatformRegistry(pool, "local");
beforeEach(async () => {
  await clearServices(database);
  await database.rows(
    `update osp_metadata.platforms set concurrency_limit = null, reconciled_at = null, health_checked_at = null, services_listed = null`,
  );
});

/** A person who has begun a transaction and gone for lunch. */
async function person(statement: string) {
  const client = await database.connect();
  onTestFinished(() => client.end());
  await client.query("begin");
  expect((await client.query(statement)).rowCount).not.toBe(0);
  return client;
}
const lockPlatform = () => person(`select from osp_metadata.platforms where name = 'local' for update`);
const lockRow = (schema: string) =>
  person(`select from osp_metadata.worker_registry where service_schema = '${schema}' for update`);

async function deployed(...schemas: string[]): Promise<void> {
  for (const schema of schemas) await insertService(database, schema);
  await handler(ring());
  for (const claim of await deployer.claim(100)) {
    await deployer.settle(claim, {
      outcome: "deployed",
      workerVersion: "1",
      serviceId: claim.service_schema,
      platformDeploymentId: "d",
    });
  }
}
const statusOf = async (schema: string) => (await registryOf(database, schema)).at(-1)?.deployment_status;

test("what the deployer and the Edge Function call waits for no lock without limit", async () => {
  const called = Object.entries(functions)
    .filter(([, roles]) => roles.includes("osp_deployer") || roles.includes("service_role"))
    .map(([name]) => name).filter((name) => name.startsWith("osp_metadata."));
  // They read and lock nothing.
  const pure = ["osp_metadata.append_log", "osp_metadata.cut_text"];
  const unlimited = await database.rows<{ name: string }>(
    `select p.pronamespace::regnamespace || '.' || p.proname as name from pg_proc as p
     where p.pronamespace::regnamespace || '.' || p.proname = any ($1)
       and not exists (select from unnest(p.proconfig) as setting where setting like 'lock_timeout=%')
     order by 1`,
    [called],
  );
  expect(called.length).toBeGreaterThan(15);
  expect(unlimited.map(({ name }) => name)).toEqual(pure);
});

describe("a person who has the platform's row locked", () => {
  test("keeps nobody from claiming, also on a platform that has a limit", async () => {
    await database.rows(`update osp_metadata.platforms set concurrency_limit = 2 where name = 'local'`);
    for (const schema of ["a", "b", "c"]) await insertService(database, schema);
    await handler(ring());
    await lockPlatform();
    expect(await deployer.claim(5)).toHaveLength(2);
    expect(await deployer.claim(5)).toEqual([]);
  });

  test("keeps the turns, which are taken afterwards", async () => {
    const holder = await lockPlatform();
    const health = async () =>
      (await pool.query(`select osp_metadata.take_health_turn('local', 60) as is_ours`)).rows[0].is_ours;
    expect(await platform.takeTurn(60)).toBeUndefined();
    expect(await health()).toBe(false);
    await holder.query("rollback");
    expect(await platform.takeTurn(60)).toEqual(expect.any(String));
    expect(await platform.takeTurn(60)).toBeUndefined();
    expect(await health()).toBe(true);
    expect(await health()).toBe(false);
  });

  test("does not keep a lost service from being requested again", async () => {
    await deployed("lost");
    const [row] = await database.rows<{ now: string }>(`select clock_timestamp()::text as now`);
    await lockPlatform();
    expect(await platform.reconcile({ services: [], listedAt: row?.now ?? "" }, 1)).toMatchObject([{
      finding: "lost",
      service_schema: "lost",
    }]);
    expect(await statusOf("lost")).toBe("stopped");
  });
});

describe("a person who has a row of the registry locked", () => {
  test("keeps no other service from being compared: the next comparison has it", async () => {
    await deployed("held", "lost");
    const compare = async () => {
      const [row] = await database.rows<{ now: string }>(`select clock_timestamp()::text as now`);
      const findings = await platform.reconcile({ services: [], listedAt: row?.now ?? "" }, 0.001);
      return findings.map(({ finding, service_schema }) => [finding, service_schema]);
    };
    const holder = await lockRow("held");
    expect(await compare()).toEqual([["lost", "lost"]]);
    await holder.query("rollback");
    expect(await compare()).toEqual([["lost", "held"]]);
  });

  test("keeps no other from being stopped once more", async () => {
    await deployed("held", "left");
    await database.rows(`update osp.services set enabled = false`);
    await handler(ring());
    for (const claim of await deployer.claim(100)) await deployer.settle(claim, { outcome: "stopped" });
    const listed = ["held", "left"].map((schema) => ({ serviceSchema: schema, id: schema, isRunning: true }));
    const compare = async () => {
      const [row] = await database.rows<{ now: string }>(`select clock_timestamp()::text as now`);
      const findings = await platform.reconcile({ services: listed, listedAt: row?.now ?? "" }, 0.001);
      return findings.map(({ finding, service_schema }) => [finding, service_schema]);
    };
    const holder = await lockRow("held");
    expect(await compare()).toEqual([["left", "left"]]);
    await holder.query("rollback");
    expect(await compare()).toEqual([["left", "held"]]);
  });

  test("keeps no other from being seen alive, and is not silent itself", async () => {
    await deployed("held", "seen", "silent");
    await database.rows(`update osp_metadata.worker_registry set last_health_check = now() - interval '1 hour'`);
    await lockRow("held");
    const seen = ["held", "seen"].map((service_schema) => ({ service_schema, revision: 1, worker_version: "1" }));
    const { rows } = await pool.query(`select * from osp_metadata.record_health('local', $1)`, [
      JSON.stringify([...seen, { service_schema: null, revision: null, worker_version: null }]),
    ]);
    expect(rows).toMatchObject([{ service_schema: "silent", revision: 1 }]);
    expect(
      await database.rows(
        `select service_schema from osp_metadata.worker_registry where last_health_check > now() - interval '1 minute'`,
      ),
    ).toEqual([{ service_schema: "seen" }]);
  });
});

describe("a person who has an attempt locked that a deployer left", () => {
  const attemptsOf = (schema: string) =>
    database.rows(
      `select deployer, outcome from osp_metadata.deployment_attempts where service_schema = $1 order by id`,
      [
        schema,
      ],
    );
  const leaseEnds = () =>
    database.rows(
      `update osp_metadata.worker_registry set lease_expires_at = clock_timestamp() where lease_token is not null`,
    );

  /** A deployment that one deployer left, whose attempt somebody has locked, and another that waits. */
  async function leaveLocked() {
    await insertService(database, "left");
    await handler(ring());
    const claims = await deployer.claim(5);
    expect(claims).toHaveLength(1);
    for (const claim of claims) await deployer.report(claim, "deploying", "a line");
    await leaseEnds();
    const holder = await person(
      `select from osp_metadata.deployment_attempts where service_schema = 'left' for update`,
    );
    await insertService(database, "other");
    await handler(ring());
    return {
      holder,
      next: createRegistry(pool, { owner: "b", platform: "local", leaseSeconds: 10, renewTimeoutMs: 5000 }),
    };
  }

  test.each([null, 5])(
    "keeps nothing from being claimed, under a limit of %s: a later claim ends it",
    async (limit) => {
      await database.rows(`update osp_metadata.platforms set concurrency_limit = $1 where name = 'local'`, [limit]);
      const { holder, next } = await leaveLocked();
      expect(await next.claim(5)).toMatchObject([
        { service_schema: "left", abandoned: 1 },
        { service_schema: "other", abandoned: 0 },
      ]);
      expect(await attemptsOf("left")).toEqual([{ deployer: "a", outcome: null }]);
      await holder.query("rollback");
      await leaseEnds();
      // Both are suspect or not as if it had been ended at once.
      expect(await deployer.claim(5)).toMatchObject([
        { service_schema: "left", abandoned: 2 },
        { service_schema: "other", abandoned: 1 },
      ]);
      expect(await attemptsOf("left")).toEqual([
        { deployer: "a", outcome: "abandoned" },
        { deployer: "b", outcome: "abandoned" },
      ]);
    },
  );

  test.each([
    { still: "does not keep it from being settled", isHeld: true, outcome: null },
    {
      still: "any more does not leave it open: the settlement of the deployment ends it",
      isHeld: false,
      outcome: "abandoned",
    },
  ])("$still", async ({ isHeld, outcome }) => {
    const { holder, next } = await leaveLocked();
    const [claim] = await next.claim(1);
    if (claim === undefined) throw new Error("There was nothing to claim");
    expect(await next.report(claim, "deploying", "a line")).toBe(true);
    if (!isHeld) await holder.query("rollback");
    expect(await next.settle(claim, { outcome: "superseded" })).toBe(true);
    expect(await attemptsOf("left")).toEqual([{ deployer: "a", outcome }, { deployer: "b", outcome: "superseded" }]);
  });
});
