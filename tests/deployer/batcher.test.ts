import type { Pool } from "pg";
import { beforeEach, expect, test } from "vitest";
import { createRegistry } from "../../deployer/registry.ts";
import { useDatabase } from "../support/database.ts";
import { createTestHandler, ring } from "../support/edge-function.ts";
import { untilBlocked } from "../support/locks.ts";
import { clearServices, eventually, registryOf } from "../support/services.ts";

const database = useDatabase();
const handler = createTestHandler(database);
const SERVICES = 40;
const deployed = { outcome: "deployed", workerVersion: "1", serviceId: "s", platformDeploymentId: "d" } as const;

beforeEach(async () => {
  await clearServices(database);
  await database.rows(
    `insert into osp.services (service_schema, service_name, workflows)
    select 's_' || n, 'S', '[{"name": "doWork", "activities": ["work"]}]' from generate_series(1, ${SERVICES}) as n`,
  );
  expect((await handler(ring())).status).toBe(200);
});

/** All services in hand, and how many statements were run since. */
async function claimAll() {
  const pool = database.deployerPool(5);
  let statements = 0;
  const counting: Pool = new Proxy(pool, {
    get(target, name) {
      if (name === "query") statements++;
      return Reflect.get(target, name, target);
    },
  });
  const registry = createRegistry(counting, {
    owner: "a",
    platform: "local",
    leaseSeconds: 60,
    renewTimeoutMs: 1000,
  });
  const claims = await registry.claim(SERVICES);
  expect(claims).toHaveLength(SERVICES);
  statements = 0;
  return { registry, claims, statements: () => statements };
}

test("what is reported and settled at one moment goes together, nothing is mixed up", async () => {
  const { registry, claims, statements } = await claimAll();
  // Two lines of one deployment keep their order.
  await Promise.all(claims.flatMap((claim) => [
    registry.report(claim, "deploying", `first of ${claim.service_schema}`),
    registry.report(claim, "readiness", `second of ${claim.service_schema}`),
  ]));
  const written = await Promise.all(claims.map((claim) => registry.settle(claim, deployed)));
  expect(written).toEqual(claims.map(() => true));
  expect(statements()).toBeLessThan(SERVICES / 2);
  for (const { service_schema } of claims) {
    const [row] = await registryOf(database, service_schema);
    expect(row).toMatchObject({ deployment_status: "deployed" });
    expect(row?.logs.match(/(first|second|deployed).*/g)).toEqual([
      `first of ${service_schema}`,
      `second of ${service_schema}`,
      "deployed, the worker polls its task queues",
    ]);
  }
  expect(await database.rows(`select distinct step, outcome from osp_metadata.deployment_attempts`)).toEqual([
    { step: "readiness", outcome: "deployed" },
  ]);
});

test("a row that somebody holds locked holds up no other", async () => {
  const { registry, claims: [first, second, ...claims] } = await claimAll();
  if (first === undefined || second === undefined) throw new Error("nothing was claimed");
  const person = await database.connect();
  await person.query(`begin`);
  await person.query(`select from osp_metadata.worker_registry where id = $1 for update`, [first.id]);

  let isSettled = false;
  const reported = registry.report(first, "deploying", "late");
  const settled = registry.settle(first, deployed).then((isWritten) => isSettled = isWritten);
  await Promise.all(claims.map((claim) => registry.report(claim, "deploying", "in time")));
  expect(await Promise.all(claims.map((claim) => registry.settle(claim, deployed)))).not.toContain(false);
  expect(isSettled).toBe(false);
  await person.query(`commit`);
  await reported;
  expect(await settled).toBe(true);
  expect(await registry.settle(second, deployed)).toBe(true);
});

test("what a settlement replaces, and is locked, holds up its own service alone", async () => {
  const { registry, claims } = await claimAll();
  await Promise.all(claims.map((claim) => registry.settle(claim, deployed)));
  await database.rows(`update osp.services set service_name = 'changed'`);
  await handler(ring());
  const [first, ...others] = await registry.claim(SERVICES);
  if (first === undefined) throw new Error("nothing was claimed");
  const person = await database.connect();
  await person.query(`begin`);
  await person.query(
    `select from osp_metadata.worker_registry where service_schema = $1 and deployment_status = 'deployed' for update`,
    [first.service_schema],
  );
  const settled = registry.settle(first, deployed);
  expect(await Promise.all(others.map((claim) => registry.settle(claim, deployed)))).not.toContain(false);
  await person.query(`commit`);
  expect(await settled).toBe(true);
  expect((await registryOf(database, first.service_schema)).map((row) => row.deployment_status)).toEqual([
    "stopped",
    "deployed",
  ]);
});

test("one that the database refuses takes no other along", async () => {
  const { registry, claims: [first, ...claims] } = await claimAll();
  if (first === undefined) throw new Error("nothing was claimed");
  const facts = { exitCode: 2 ** 31 }; // no integer of Postgres
  const bad = { outcome: "failed", failure: { class: "permanent", code: "x", message: "x", facts } } as const;
  const [refused, ...settled] = await Promise.allSettled([
    registry.settle(first, bad),
    ...claims.map((claim) => registry.settle(claim, deployed)),
  ]);
  expect(refused).toMatchObject({ status: "rejected", reason: { code: "22003" } });
  expect(settled).toEqual(claims.map(() => ({ status: "fulfilled", value: true })));
});

test("a lost lease is told to its own deployment alone", async () => {
  const { registry, claims: [first, ...claims] } = await claimAll();
  if (first === undefined) throw new Error("nothing was claimed");
  await database.rows(`update osp_metadata.worker_registry set lease_token = gen_random_uuid() where id = $1`, [
    first.id,
  ]);
  const written = await Promise.all([first, ...claims].map((claim) => registry.settle(claim, deployed)));
  expect(written).toEqual([false, ...claims.map(() => true)]);
});

test("rows that somebody holds locked leave connections to all else, and are written when they are let go of", async () => {
  const { registry, claims } = await claimAll();
  const [locked, [unrelated, ...others]] = [claims.slice(0, 6), claims.slice(6)];
  if (unrelated === undefined) throw new Error("nothing was claimed");
  const person = await database.connect();
  await person.query(`begin`);
  await person.query(`select from osp_metadata.worker_registry where id = any ($1) for update`, [
    locked.map((claim) => claim.id),
  ]);
  let written = 0;
  const late = [
    ...locked.map((claim) => registry.report(claim, "readiness", `late of ${claim.service_schema}`)),
    ...locked.map((claim) => registry.remember(claim, { serviceId: "s" })),
    ...locked.map((claim) => registry.settle(claim, deployed)),
  ].map((writing) => writing.then((isWritten) => (written++, isWritten)));

  await untilBlocked(database, person);
  expect(await registry.renew([unrelated.lease_token])).toHaveLength(1);
  expect(await Promise.all(others.map((claim) => registry.settle(claim, deployed)))).not.toContain(false);
  await database.rows(`update osp.services set service_name = 'changed' where service_schema = $1`, [
    others[0]?.service_schema,
  ]);
  await handler(ring());
  expect(await registry.claim(SERVICES)).toMatchObject([{ service_schema: others[0]?.service_schema }]);
  const blocked = await database.rows(
    `select pid from pg_stat_activity where datname = current_database() and cardinality(pg_blocking_pids(pid)) > 0`,
  );
  expect(blocked.length).toBeLessThanOrEqual(2);
  expect(written).toBe(0);

  await person.query(`commit`);
  // A settlement may come before the line: then the line is nobody's.
  await Promise.all(late);
  for (const claim of locked) {
    expect(await registryOf(database, claim.service_schema)).toMatchObject([{ deployment_status: "deployed" }]);
  }
});

test("a settlement outlasts a lock that is held for longer than it waits at once", async () => {
  const { registry, claims: [first] } = await claimAll();
  if (first === undefined) throw new Error("nothing was claimed");
  const person = await database.connect();
  await person.query(`begin`);
  await person.query(`select from osp_metadata.worker_registry where id = $1 for update`, [first.id]);
  const settled = registry.settle(first, deployed);
  const waiting = async () =>
    (await database.rows<{ since: string }>(
      `select query_start::text as since from pg_stat_activity
      where datname = current_database() and cardinality(pg_blocking_pids(pid)) > 0`,
    ))[0]?.since;
  const since = await eventually(waiting, (at) => at !== undefined);
  await eventually(waiting, (at) => at !== undefined && at !== since); // it has given up, and waits again
  await person.query(`commit`);
  expect(await settled).toBe(true);
});
