import { setTimeout as pause } from "node:timers/promises";
import { pino } from "pino";
import { afterAll, beforeEach, expect, onTestFinished, test } from "vitest";
import { runDeployer } from "../../deployer/deployer.ts";
import type { Platform } from "../../deployer/platforms/platform.ts";
import { platformReadiness } from "../../deployer/readiness/readiness.ts";
import { createRegistry, type Registry, type RegistrySettings } from "../../deployer/registry.ts";
import { createScratch } from "../../deployer/scratch.ts";
import { createWake } from "../../deployer/wake.ts";
import { useDatabase } from "../support/database.ts";
import { createTestHandler, ring } from "../support/edge-function.ts";
import { untilBlocked } from "../support/locks.ts";
import { clearServices, eventually, insertService, registryOf } from "../support/services.ts";
import { plainStaging } from "../support/staging.ts";

const database = useDatabase();
const handler = createTestHandler(database);
const scratch = createScratch();
afterAll(() => scratch.close());
const pool = database.deployerPool(16);
const deployerNamed = (owner: string, settings: Partial<RegistrySettings> = {}): Registry =>
  createRegistry(pool, { owner, platform: "local", leaseSeconds: 10, renewTimeoutMs: 5000, ...settings });
const [a, b] = [deployerNamed("a"), deployerNamed("b")];
const deployed = { outcome: "deployed", workerVersion: "1.0.0", serviceId: "s", platformDeploymentId: "d" } as const;
const failure = { class: "transient", code: "x", message: "it broke", facts: {} } as const;
beforeEach(async () => {
  await clearServices(database);
  await database.rows(`update osp_metadata.platforms set concurrency_limit = null`);
});

/** Until nothing waits any more that could be taken. */
async function ringBell(): Promise<void> {
  do await handler(ring()); while (await waiting() > 0);
}
const waiting = async () =>
  (await database.rows<{ count: number }>(`select osp_metadata.count_waiting_intents() as count`))[0]?.count ?? 0;
async function request(...schemas: string[]): Promise<void> {
  for (const schema of schemas) await insertService(database, schema);
  await ringBell();
}
/** Many at once, one statement; oldest first by their numbers. */
async function requestMany(count: number, prefix = "s"): Promise<void> {
  await database.rows(
    `insert into osp.services (service_schema, service_name, workflows)
     select $2 || to_char(n, 'FM00000'), 'S', '[{"name":"w","activities":["x"]}]' from generate_series(1, $1) as n`,
    [count, prefix],
  );
  await ringBell();
}
const countOf = async (status: string, where = "true") =>
  (await database.rows<{ count: number }>(
    `select count(*)::integer as count from osp_metadata.worker_registry where deployment_status = $1 and ${where}`,
    [status],
  ))[0]?.count ?? -1;
const expireLeases = () =>
  database.rows(
    `update osp_metadata.worker_registry set lease_expires_at = clock_timestamp() - interval '1 second' where lease_token is not null`,
  );

/** The deployer's loop on a platform that is only there to be asked. Stops with the test. */
function startLoop(deploy: Platform["deploy"], { owner = "a", concurrency = 4, registry = deployerNamed(owner) } = {}) {
  const stop = new AbortController();
  const refuse = () => Promise.reject(new Error("not to be called"));
  const ended = runDeployer({
    registry,
    platform: { name: "local", deploy, stop: () => Promise.resolve(), remove: refuse, list: refuse },
    readiness: platformReadiness,
    rules: { maxAttempts: 3, retrySeconds: 0.05, retryCapSeconds: 1, deferSeconds: 0.05, deferCapSeconds: 1 },
    wake: createWake(),
    doorbell: undefined,
    supervision: undefined,
    isPlatformOpen: () => true,
    staging: plainStaging(scratch),
    settings: {
      ...{ concurrency, pollSeconds: 0.05, leaseSeconds: 10, renewSeconds: 0.2 },
      ...{ sweepSeconds: 3600, reconcileSeconds: 3600, shutdownSeconds: 5 },
    },
    log: pino({ level: "silent" }),
  }, stop.signal);
  onTestFinished(async () => {
    stop.abort();
    await ended;
  });
}
const atOnce: Platform["deploy"] = ({ serviceSchema, revision }) =>
  Promise.resolve({ serviceId: serviceSchema, deploymentId: String(revision) });

test("deployers that claim at once stay within the platform's limit, and within it when it is lowered", async () => {
  await requestMany(40);
  await database.rows(`update osp_metadata.platforms set concurrency_limit = 7 where name = 'local'`);
  const claims = (await Promise.all(Array.from({ length: 16 }, (_, index) => (index % 2 ? a : b).claim(5)))).flat();
  expect(claims).toHaveLength(7);
  for (const claim of claims.slice(0, 3)) await a.settle(claim, deployed);
  await database.rows(`update osp_metadata.platforms set concurrency_limit = 5 where name = 'local'`);
  expect(await a.claim(5)).toHaveLength(1);
  await database.rows(`update osp_metadata.platforms set concurrency_limit = null where name = 'local'`);
  expect(await a.claim(50)).toHaveLength(32);
});

test("a claim waits for the one before it, and counts what that has taken", async () => {
  await requestMany(4);
  await database.rows(`update osp_metadata.platforms set concurrency_limit = 2 where name = 'local'`);
  const first = await database.connect();
  await first.query("begin");
  await first.query(`select osp_metadata.free_slots('local')`);
  const second = a.claim(2);
  await untilBlocked(database, first);
  await first.query(
    `update osp_metadata.worker_registry
     set deployment_status = 'deploying', platform = 'local', lease_token = gen_random_uuid(), lease_expires_at = now() + interval '1 hour'
     where service_schema = 's00004'`,
  );
  await first.query("commit");
  expect(await second).toHaveLength(1);
});

test("what a killed deployer left is taken over, however low the limit is; another platform has its own", async () => {
  await requestMany(3);
  await database.rows(`update osp_metadata.platforms set concurrency_limit = 1`);
  expect(await a.claim(5)).toHaveLength(1);
  expect(await b.claim(5)).toEqual([]);
  expect(await deployerNamed("c", { platform: "railway" }).claim(5)).toHaveLength(1);
  await expireLeases();
  expect(await b.claim(5)).toMatchObject([{ service_schema: "s00001", abandoned: 1 }]);
});

test("a thousand rows drain in the order of their age", async () => {
  await requestMany(1000);
  startLoop(atOnce, { concurrency: 8 });
  await eventually(() => countOf("deployed"), (count) => count === 1000, 60_000);
  const claimed = await database.rows<{ service_schema: string }>(
    `select r.service_schema from osp_metadata.worker_registry as r order by r.claimed_at, r.created_at`,
  );
  const places = claimed.map(({ service_schema }, place) => Math.abs(Number(service_schema.slice(1)) - 1 - place));
  // Within one claim the order is nobody's.
  expect(Math.max(...places)).toBeLessThan(8);
}, 90_000);

test("a service that is edited all the time does not hold up the others, and ends at its newest revision", async () => {
  await request("noisy");
  startLoop(atOnce, { concurrency: 2 });
  const quiet = new AbortController();
  let edits = 0;
  const noise = (async () => {
    for (; !quiet.signal.aborted; edits++) {
      await pause(8); // a hundred a second
      await database.rows(`update osp.services set service_name = $1 where service_schema = 'noisy'`, [
        `Edit ${edits}`,
      ]);
    }
  })();
  const bell = (async () => {
    while (!quiet.signal.aborted) await handler(ring());
  })();
  try {
    for (let wave = 0; wave < 5; wave++) {
      await requestMany(10, `wave_${wave}_`);
      await eventually(() => countOf("deployed", `service_schema like 'wave_%'`), (count) => count === 10 * (wave + 1));
    }
    await eventually(() => Promise.resolve(edits), (count) => count >= 100);
  } finally {
    quiet.abort();
    await Promise.all([noise, bell]);
  }
  await eventually(
    async () => {
      await ringBell();
      return (await registryOf(database, "noisy")).at(-1);
    },
    (row) => row?.deployment_status === "deployed" && row.revision === edits + 1,
    50_000, // one that was edited just when it was enqueued is taken again when its lease has run out
  );
}, 120_000);

test("a manifest that makes the deployer throw ends its own row, and the others go on", async () => {
  await request("poison", ...["one", "two", "three"]);
  const nested = `${"[".repeat(6000)}${"]".repeat(6000)}`;
  await database.rows(`update osp_metadata.worker_registry set manifest = $1 where service_schema = 'poison'`, [
    nested,
  ]);
  startLoop(atOnce, { concurrency: 1 });
  await eventually(() => countOf("deployed"), (count) => count === 3);
  expect(await registryOf(database, "poison")).toMatchObject([{
    ...{ deployment_status: "failed", error_code: expect.stringMatching(/manifest_/), retry_count: 0 },
  }]);
});

test("a platform that throws what is no error, and text that Postgres cannot hold, end as failed with a reason", async () => {
  await request("poison", "healthy");
  const deploy: Platform["deploy"] = (wanted, report, signal) => {
    if (wanted.serviceSchema === "healthy") return atOnce(wanted, report, signal);
    report("a line with \0 and half a \ud83d character");
    const circle: Record<string, unknown> = { text: "\0\ud83d" };
    circle["self"] = circle;
    return Promise.reject(circle);
  };
  startLoop(deploy, { concurrency: 1 });
  await eventually(() => countOf("failed"), (count) => count === 1);
  await eventually(() => countOf("deployed"), (count) => count === 1);
  expect(await registryOf(database, "poison")).toMatchObject([{ error_code: "unexpected", retry_count: 2 }]);
});

test("a manifest that is the JSON value null is no wish to stop: it fails at once, and the rest of its batch is worked on", async () => {
  await request("forged", "readable");
  const told: string[] = [];
  const reader = deployerNamed("a", { onUnreadable: ({ service_schema }) => told.push(service_schema) });
  await database.rows(`update osp_metadata.worker_registry set manifest = 'null' where service_schema = 'forged'`);
  expect(await reader.claim(5)).toMatchObject([{ service_schema: "readable" }]);
  expect(told).toEqual(["forged"]);
  expect(await registryOf(database, "forged")).toMatchObject([{
    deployment_status: "failed",
    error_code: "claim_unreadable",
    error_message: expect.stringContaining("JSON value null"),
  }]);
  expect(await reader.claim(5)).toEqual([]);
});

test("what takes deployers down is tried alone of its kind, so that it does not take others along for ever", async () => {
  await request("deadly", "innocent", "late");
  for (let death = 0; death < 2; death++) {
    expect(await a.claim(2)).toHaveLength(2);
    await expireLeases();
  }
  // Two died with both: from now on they are claimed one at a time, beside what is above suspicion.
  expect(await a.claim(3)).toMatchObject([{ service_schema: "deadly", abandoned: 2 }, { service_schema: "late" }]);
  expect(await a.claim(3, false)).toEqual([]);
  const [innocent] = await a.claim(3);
  expect(innocent).toMatchObject({ service_schema: "innocent", abandoned: 2 });
  if (innocent) await a.settle(innocent, deployed);
});

test("a row that takes every deployer down fails in the end, and what was in hand with it is deployed", async () => {
  await request("deadly", "s1", "s2", "s3");
  await database.rows(
    `update osp_metadata.worker_registry set created_at = created_at - interval '1 hour' where service_schema = 'deadly'`,
  );
  // A deployer that dies with the row before it can do anything, again and again; only the row alone is survived.
  for (let life = 0; life < 40 && await countOf("pending") + await countOf("deploying") > 0; life++) {
    const claims = await deployerNamed(`life-${life}`).claim(4);
    const deadly = claims.find(({ service_schema }) => service_schema === "deadly");
    if (deadly === undefined || deadly.abandoned > 10) {
      for (const claim of claims) {
        await a.settle(claim, claim === deadly ? { outcome: "failed", failure } : deployed);
      }
    } else await expireLeases();
  }
  expect(await database.rows(`select service_schema, deployment_status from osp_metadata.worker_registry order by 1`))
    .toEqual([
      { service_schema: "deadly", deployment_status: "failed" },
      ...["s1", "s2", "s3"].map((name) => ({ service_schema: name, deployment_status: "deployed" })),
    ]);
  expect(
    await database.rows(
      `select service_schema from osp_metadata.deployment_attempts where outcome = 'abandoned' and service_schema <> 'deadly'
       group by service_schema having count(*) > 3`,
    ),
  ).toEqual([]);
});
