import { setTimeout as pause } from "node:timers/promises";
import pg from "pg";
import type { LoadStack } from "./load-stack.ts";
import { addPeerJob, installPeer } from "./peer.ts";
import { type BenchResult, createResult, median } from "./result.ts";
import { startLoadDeployer, startPeerWorker } from "./start-program.ts";

const ROUNDS = 100;
/** Not counted: the first rows find cold caches, and plans that are made for each. */
const WARM_UP = 20;
/** So that both are idle when the next one comes. */
const REST_MS = 25;
const SERVICES = 20;

/**
 * From the commit of a registry row to the moment at which a deployer has it, beside the peer's way from the commit of a job to
 * its start: the same database, the same run, turn by turn, each with its own defaults (four at once). Neither waits for the
 * disk when it has taken one (synchronous_commit off); what adds them does.
 */
export async function measureClaimLatency(stack: LoadStack, write: (line: string) => void): Promise<BenchResult[]> {
  const pool = new pg.Pool({ connectionString: stack.databaseUrl, max: 2 });
  pool.on("error", () => {}).on("connect", (client) => client.on("error", () => {}));
  await installPeer(pool);
  await pool.end();
  const deployer = startLoadDeployer(stack.deployerUrl);
  const peer = startPeerWorker(stack.databaseUrl);
  try {
    const rows: number[] = [];
    const jobs: number[] = [];
    for (let round = 0; round < WARM_UP + ROUNDS; round++) {
      const row = await timed(() => addRow(stack.client, round), deployer.claimed);
      const job = await timed(() => addPeerJob(stack.client), peer.claimed);
      if (round >= WARM_UP) {
        rows.push(row);
        jobs.push(job);
      }
    }
    write(`  a row claimed after ${median(rows).toFixed(2)} ms, a job started after ${median(jobs).toFixed(2)} ms`);
    const services: number[] = [];
    for (let number = 0; number < SERVICES; number++) {
      services.push(await timed(() => addService(stack.client, number), deployer.claimed));
      await pause(1100); // the doorbell rests for a second after each ring; that wait would be the benchmark's doing
    }
    write(`  a service claimed after ${median(services).toFixed(0)} ms`);
    return resultsOf(rows, jobs, services);
  } finally {
    await Promise.all([deployer.stop(), peer.stop()]);
  }
}

/** Milliseconds from the commit, which `add` resolves with. */
async function timed(add: () => Promise<string>, claimed: (id: string) => Promise<number>): Promise<number> {
  await pause(REST_MS);
  const id = await add();
  const committedAt = performance.timeOrigin + performance.now();
  return await claimed(id) - committedAt;
}

/** A revision that wants its service stopped: it needs no manifest. */
async function addRow(client: pg.Client, round: number): Promise<string> {
  const { rows: [row] } = await client.query(
    `with added as (
      insert into osp_metadata.worker_registry (service_schema, manifest_path, revision, source, stop_requested_at)
      values ('latency_' || $1::integer, 'manifests/latency.json', 1, 'disable', clock_timestamp())
      returning id
    )
    select id, pg_notify('worker_registry', '') from added`,
    [round],
  );
  return row.id;
}

/** As OSP does it. The deployment's id is known at once. */
async function addService(client: pg.Client, number: number): Promise<string> {
  const { rows: [row] } = await client.query(
    `select deployment_id from osp.deploy_service($1, 'A Service', '[{"name": "doWork", "activities": ["work"]}]')`,
    [`latency_service_${number}`],
  );
  return row.deployment_id;
}

function resultsOf(rows: number[], jobs: number[], services: number[]): BenchResult[] {
  const raw = { row_to_claimed_p50_ms: median(rows), job_to_started_p50_ms: median(jobs) };
  return [
    createResult({
      name: "claim_latency_to_peer",
      value: median(rows) / median(jobs),
      unit: "ratio",
      goal: 1,
      raw: { ...raw, row_to_claimed_ms: rows, job_to_started_ms: jobs },
    }),
    createResult({
      name: "service_committed_to_claimed_p50",
      value: median(services),
      unit: "ms",
      goal: null,
      raw: { services: services.length, service_to_claimed_ms: services },
    }),
  ];
}
