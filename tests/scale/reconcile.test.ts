import { readFileSync } from "node:fs";
import { setTimeout as pause } from "node:timers/promises";
import { afterEach, beforeEach, expect, inject, test } from "vitest";
import { createRegistry } from "../../deployer/registry.ts";
import { fleetService } from "../support/fleet.ts";
import { openExplained, readingOf } from "./plans.ts";

/** Every service is compared: by a look at its row, its intent and its newest revision. */
const ROWS_A_SERVICE = 3;
const BLOCKS_A_SERVICE = 6;
/** Its row, its intent, what runs of it and what is under way: twice, as a platform's listing is compared for two questions. */
const ROWS_OF_A_COMPARISON = 10;
/** With the default work_mem of 4 MB: what a sort or a join of the fleet itself writes aside, in blocks of 8 KiB. */
const TEMP_BLOCKS = 8192;
const MIB = 1024 * 1024;

let session: Awaited<ReturnType<typeof openExplained>>;
let services: number;
beforeEach(async () => {
  // Functions inside functions are thousands of plans that tell nothing.
  session = await openExplained(inject("fleetUrl"), "postgres", { "auto_explain.log_min_duration": "10ms" });
  const { rows: [row] } = await session.client.query(
    `select count(*)::integer as count from osp_metadata.service_intents`,
  );
  services = row.count;
  await session.client.query(`begin`);
});
afterEach(async () => {
  await session.client.query(`rollback`);
  await session.close();
});

/** As the deployer calls it; with what it read and the most memory of its own that the server's process held. */
async function reconcile() {
  const { client } = session;
  const { rows: [{ pid }] } = await client.query(`select pg_backend_pid() as pid`);
  await client.query(`set local role osp_deployer`);
  const registry = createRegistry(client, { owner: "a", platform: "railway", leaseSeconds: 10, renewTimeoutMs: 5000 });
  let waiting = -1;
  const over = new AbortController();
  const watching = watchMemory(pid, over.signal);
  const plans = await session.plansOf(async () => waiting = await registry.reconcile());
  over.abort();
  await client.query(`reset role`);
  return { waiting, plans, memory: await watching };
}

async function watchMemory(pid: number, signal: AbortSignal): Promise<number> {
  let most = 0;
  while (!signal.aborted) {
    const kilobytes = /^RssAnon:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1];
    most = Math.max(most, Number(kilobytes) * 1024);
    await pause(50, undefined, { signal }).catch(() => {});
  }
  return most;
}

test("a comparison of all services reads as much as there are services, whatever the registry keeps", async () => {
  const { waiting, plans, memory } = await reconcile();
  expect(waiting).toBe(0);
  const reading = readingOf(plans);
  expect(reading.scanned.filter((scan) => /^(worker_registry|deployment_attempts)/.test(scan))).toEqual([]);
  expect(reading.rows).toBeLessThanOrEqual(services * ROWS_A_SERVICE);
  expect(reading.blocks).toBeLessThanOrEqual(services * BLOCKS_A_SERVICE);
  expect(reading.tempBlocks).toBeLessThanOrEqual(TEMP_BLOCKS);
  expect(memory).toBeLessThan(64 * MIB);
});

test("one service that changed without a trigger is found among all", async () => {
  const { client } = session;
  await client.query(`set local session_replication_role = replica`);
  const changed = `update osp.services set service_name = 'Restored' where service_schema = $1`;
  await client.query(changed, [fleetService(4711)]);
  await client.query(`set local session_replication_role = origin`);
  expect((await reconcile()).waiting).toBe(1);
  const { rows } = await client.query(
    `select service_schema, source from osp_metadata.service_intents where revision > enqueued_revision`,
  );
  expect(rows).toEqual([{ service_schema: fleetService(4711), source: "update" }]);
});

test("an emptied registry is requested anew in one call, within the same memory", async () => {
  const { client } = session;
  await client.query(`truncate osp_metadata.worker_registry cascade`);
  const { waiting, plans, memory } = await reconcile();
  const { rows: [row] } = await client.query(`select count(*)::integer as count from osp.services where enabled`);
  expect(waiting).toBe(row.count);
  expect(readingOf(plans).tempBlocks).toBeLessThanOrEqual(4 * TEMP_BLOCKS);
  expect(memory).toBeLessThan(256 * MIB);
});

/** What all that is deployed there would list, as the deployer hands it over. */
async function listing(): Promise<string> {
  const { rows: [{ listed }] } = await session.client.query(
    `select jsonb_agg(jsonb_build_object(
      'service_schema', r.service_schema, 'id', r.platform_service_id, 'is_running', true, 'deployment_id', null,
      'platform_deployment_id', r.platform_deployment_id
    ))::text as listed
    from osp_metadata.worker_registry as r
    where r.deployment_status = 'deployed'`,
  );
  return listed;
}

test("a platform's listing of all services is compared by reading as much as there are services", async () => {
  const { client } = session;
  const listed = await listing();
  await client.query(`set local role osp_deployer`);
  let found: unknown[] = [];
  const plans = await session.plansOf(async () => {
    const compare = `select * from osp_metadata.reconcile_platform('railway', $1::jsonb, clock_timestamp(), 600)`;
    found = (await client.query(compare, [listed])).rows;
  });
  expect(found).toEqual([]);
  const reading = readingOf(plans);
  expect(reading.scanned.filter((scan) => /^(worker_registry|deployment_attempts)/.test(scan))).toEqual([]);
  expect(reading.rows).toBeLessThanOrEqual(services * ROWS_OF_A_COMPARISON);
});

test("that all workers live is written down by reading as much as there are services", async () => {
  const { client } = session;
  const { rows: [{ seen }] } = await client.query(
    `select jsonb_agg(jsonb_build_object('service_schema', service_schema, 'revision', revision, 'worker_version', '0.1.0'))::text as seen
    from osp_metadata.worker_registry where deployment_status = 'deployed'`,
  );
  await client.query(`set local role osp_deployer`);
  let silent: unknown[] = [];
  const plans = await session.plansOf(async () => {
    silent = (await client.query(`select * from osp_metadata.record_health('railway', $1::jsonb)`, [seen])).rows;
  });
  expect(silent).toEqual([]);
  const reading = readingOf(plans);
  expect(reading.scanned).toEqual([]);
  expect(reading.rows).toBeLessThanOrEqual(services * ROWS_OF_A_COMPARISON);
});
