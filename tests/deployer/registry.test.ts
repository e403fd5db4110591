import { beforeEach, expect, test } from "vitest";
import { createRegistry, type Registry } from "../../deployer/registry.ts";
import { useDatabase } from "../support/database.ts";
import { createTestHandler, ring } from "../support/edge-function.ts";
import { untilBlocked } from "../support/locks.ts";
import { clearServices, insertService, registryOf } from "../support/services.ts";

const database = useDatabase();
const handler = createTestHandler(database);
const pool = database.deployerPool(6);
const deployerNamed = (owner: string): Registry =>
  createRegistry(pool, { owner, platform: "local", leaseSeconds: 10, renewTimeoutMs: 5000 });
const [a, b] = [deployerNamed("a"), deployerNamed("b")];
beforeEach(() => clearServices(database));

async function request(schema: string): Promise<void> {
  await insertService(database, schema);
  await handler(ring());
}
const expireLeases = () =>
  database.rows(
    `update osp_metadata.worker_registry set lease_expires_at = clock_timestamp() - interval '1 second' where lease_token is not null`,
  );
const deployed = { outcome: "deployed", workerVersion: "1.0.0", serviceId: "s", platformDeploymentId: "d" } as const;
const failure = { class: "transient", code: "x", message: "it broke", facts: {} } as const;

test("two deployers never claim one row", async () => {
  await database.rows(
    `insert into osp.services (service_schema, service_name, workflows) select 's' || g, 'S', '[{"name":"w","activities":["x"]}]' from generate_series(1, 60) as g`,
  );
  await handler(ring());
  const claims = (await Promise.all(Array.from({ length: 12 }, (_, index) => (index % 2 ? a : b).claim(5)))).flat();
  expect(claims).toHaveLength(60);
  expect(new Set(claims.map((claim) => claim.id)).size).toBe(60);
});

test("who lost the lease can neither renew, report nor settle", async () => {
  await request("s");
  const [late] = await a.claim(1);
  if (!late) throw new Error("nothing to claim");
  await expireLeases();
  const [claim] = await b.claim(1);
  if (!claim) throw new Error("nothing to claim");
  expect(claim.abandoned).toBe(1);
  expect(await a.renew([late.lease_token])).toEqual([]);
  expect(await a.renewAlone(late.lease_token)).toBeUndefined();
  await a.report(late, "deploying", "a line of the late one");
  expect(await a.settle(late, deployed)).toBe(false);
  expect(await b.settle(claim, deployed)).toBe(true);
  const [row] = await registryOf(database, "s");
  expect(row?.deployment_status).toBe("deployed");
  expect(row?.logs).not.toContain("a line of the late one");
});

test("a renewal leaves out what somebody has locked; alone it waits a moment for that", async () => {
  const tokens = [];
  for (const schema of ["locked", "free"]) {
    await request(schema);
    for (const claim of await a.claim(1)) tokens.push(claim.lease_token);
  }
  const [locked = "", free = ""] = tokens;
  const person = await database.connect();
  await person.query("begin");
  await person.query(`select from osp_metadata.worker_registry where service_schema = 'locked' for update`);
  expect(await a.renew(tokens)).toEqual([{ lease_token: free, is_superseded: false }]);
  await expect(a.renewAlone(locked)).rejects.toMatchObject({ code: "55P03" });
  const renewed = a.renewAlone(locked);
  await untilBlocked(database, person);
  await person.query("commit");
  expect(await renewed).toEqual({ lease_token: locked, is_superseded: false });
});

test("a newer revision supersedes: the older one is told at renewal and never tried again", async () => {
  await request("s");
  const [older] = await a.claim(1);
  if (!older) throw new Error("nothing to claim");
  await database.rows(`update osp.services set service_name = 'Newer'`);
  await handler(ring());
  expect(await b.claim(1)).toEqual([]);
  expect(await a.renew([older.lease_token])).toMatchObject([{ is_superseded: true }]);
  await a.settle(older, { outcome: "retry", failure, delaySeconds: 0 });
  const [newer] = await b.claim(1);
  expect(newer?.revision).toBe(2);
  expect(await registryOf(database, "s")).toMatchObject([{ deployment_status: "stopped" }, {
    deployment_status: "deploying",
  }]);
});

test("retries count, deferrals do not", async () => {
  await request("s");
  for (const outcome of ["deferred", "retry", "deferred", "deferred"] as const) {
    const [claim] = await a.claim(1);
    if (!claim) throw new Error("nothing to claim");
    await a.settle(claim, { outcome, failure, delaySeconds: 0 });
  }
  const [claim] = await a.claim(1);
  expect(claim).toMatchObject({ attempt: 2, deferrals: 2 });
  if (claim) await a.settle(claim, deployed);
  expect(await registryOf(database, "s")).toMatchObject([{
    retry_count: 1,
    deployment_status: "deployed",
    error_message: null,
  }]);
});

test("a row is not claimed before its time, nor on a paused platform", async () => {
  await request("s");
  await database.rows(
    `update osp_metadata.platforms set paused_at = now(), pause_reason = 'a test' where name = 'local'`,
  );
  expect(await a.claim(1)).toEqual([]);
  await database.rows(`update osp_metadata.platforms set paused_at = null, pause_reason = null where name = 'local'`);
  const [claim] = await a.claim(1);
  if (claim) await a.settle(claim, { outcome: "retry", failure, delaySeconds: 60 });
  expect(await a.claim(1)).toEqual([]);
});

test("deployed settles the older row as stopped in the same statement", async () => {
  for (const name of ["One", "Two"]) {
    if (name === "One") await request("s");
    else {
      await database.rows(`update osp.services set service_name = $1`, [name]);
      await handler(ring());
    }
    const [claim] = await a.claim(1);
    if (claim) await a.settle(claim, deployed);
  }
  expect(await registryOf(database, "s")).toMatchObject([{ deployment_status: "stopped" }, {
    deployment_status: "deployed",
  }]);
});

test("a settlement whose connection is cut is written all the same", async () => {
  await request("s");
  const [claim] = await a.claim(1);
  if (!claim) throw new Error("nothing to claim");
  const holder = await database.connect();
  await holder.query("begin");
  await holder.query(`select from osp_metadata.worker_registry for update`);
  const settled = a.settle(claim, deployed);
  await untilBlocked(database, holder);
  await database.rows(
    `select pg_terminate_backend(pid) from pg_stat_activity where cardinality(pg_blocking_pids(pid)) > 0`,
  );
  await holder.query("commit");
  expect(await settled).toBe(true);
  expect(await registryOf(database, "s")).toMatchObject([{ deployment_status: "deployed" }]);
});
