import { pino } from "pino";
import { beforeEach, expect, onTestFinished, test } from "vitest";
import { createHands } from "../../deployer/hands.ts";
import { createRegistry } from "../../deployer/registry.ts";
import { renewLeases } from "../../deployer/renew-leases.ts";
import { useDatabase } from "../support/database.ts";
import { createTestHandler, ring } from "../support/edge-function.ts";
import { clearServices, eventually, insertService } from "../support/services.ts";

const database = useDatabase();
const handler = createTestHandler(database);
const pool = database.deployerPool(4);
const SERVICES = ["one", "three", "two"];

beforeEach(async () => {
  await clearServices(database);
  for (const schema of SERVICES) await insertService(database, schema);
  await handler(ring());
});

/** All services in hand and renewed, each until it is told why to end; ends with the test. */
async function holdAll(leaseSeconds: number) {
  const settings = { owner: "a", platform: "local", leaseSeconds, renewTimeoutMs: leaseSeconds * 500 };
  const registry = createRegistry(pool, settings);
  const hands = createHands({ concurrency: 10, leaseSeconds, onFree: () => {} });
  const ended = new Map<string, unknown>();
  const claimedAt = performance.now();
  for (const claim of await registry.claim(10)) {
    void hands.take(claim, claimedAt, (signal) =>
      new Promise((resolve) =>
        signal.addEventListener("abort", () => {
          ended.set(claim.service_schema, signal.reason);
          resolve();
        })
      ));
  }
  const stop = new AbortController();
  const renewing = renewLeases({ hands, registry, renewSeconds: 0.1, log: pino({ level: "silent" }) }, stop.signal);
  const expiring = setInterval(() => hands.abortExpired(), 50);
  onTestFinished(async () => {
    clearInterval(expiring);
    stop.abort();
    await renewing;
  });
  expect(hands.size).toBe(SERVICES.length);
  return { hands, ended };
}

async function lockOne() {
  const person = await database.connect();
  await person.query("begin");
  await person.query(`select from osp_metadata.worker_registry where service_schema = 'one' for update`);
  return person;
}
/** Those whose lease has come to last beyond `after`, an instant of the database. */
const renewedAfter = async (after: string) =>
  (await database.rows<{ service_schema: string }>(
    `select service_schema from osp_metadata.worker_registry where lease_expires_at > $1 order by service_schema`,
    [after],
  )).map((row) => row.service_schema);
const furthestExpiry = async () =>
  (await database.rows<{ at: string }>(`select max(lease_expires_at)::text as at from osp_metadata.worker_registry`))[0]
    ?.at ?? "";

test("a row that somebody has locked keeps no other lease from being renewed, and is not taken for a lost one", async () => {
  const { ended } = await holdAll(60);
  const person = await lockOne();
  for (let times = 0; times < 3; times++) {
    const before = await furthestExpiry();
    expect(await eventually(() => renewedAfter(before), (renewed) => renewed.length === 2)).toEqual(["three", "two"]);
  }
  expect(ended).toEqual(new Map());
  const locked = await furthestExpiry();
  await person.query("commit");
  await eventually(() => renewedAfter(locked), (renewed) => renewed.length === 3);
  expect(ended).toEqual(new Map());
});

test("a row that stays locked for longer than its lease ends its own deployment alone", async () => {
  const { hands, ended } = await holdAll(2);
  const person = await lockOne();
  await eventually(() => Promise.resolve(ended.size), (size) => size > 0, 20_000);
  const before = await furthestExpiry();
  await eventually(() => renewedAfter(before), (renewed) => renewed.length === 2);
  await person.query("commit");
  expect(ended).toEqual(new Map([["one", "lease_lost"]]));
  expect(hands.size).toBe(2);
});

test("a lease that another deployer has by now is lost, though it is missing from the renewal like a locked one", async () => {
  const { ended } = await holdAll(60);
  await database.rows(
    `update osp_metadata.worker_registry set lease_token = gen_random_uuid() where service_schema = 'two'`,
  );
  await eventually(() => Promise.resolve(ended.size), (size) => size > 0);
  expect(ended).toEqual(new Map([["two", "lease_lost"]]));
});
