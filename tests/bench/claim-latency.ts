import { randomUUID } from "node:crypto";
import { setTimeout as pause } from "node:timers/promises";
import pg from "pg";
import type { LoadStack } from "./load-stack.ts";
import { addPeerJob, installPeer, withoutDiskWait } from "./peer.ts";
import { type BenchResult, createResult, median } from "./result.ts";
import { type ClaimingProgram, startLoadDeployer, startPeerWorker } from "./start-program.ts";

const ROUNDS = 100;
/** Not counted: the first rows find cold caches, and plans that are made for each. */
const WARM_UP = 20;
/** So that both are idle when the next one comes. */
const REST_MS = 25;
const SERVICES = 20;

/**
 * From the commit of a registry row to the moment at which a deployer has it, beside the peer's way from the commit of a job to
 * its start: the same database, the same run, turn by turn, each with its own defaults (four at once).
 *
 * The peer as it is shipped waits for the disk before it starts a job: the job may do anything at once, so that it must not be
 * forgotten that it was begun. A claim of ours does not wait: a crash of Postgres that forgets it leaves the row pending, and
 * nothing has happened, for the first report of an attempt is waited for and comes before all that changes the platform. Beside
 * it, for information, the peer without that wait: the same work at the same price, of which a claim has more. It writes an
 * attempt beside the row, and the row into a dozen indexes.
 */
export async function measureClaimLatency(stack: LoadStack, write: (line: string) => void): Promise<BenchResult[]> {
  const pool = new pg.Pool({ connectionString: stack.databaseUrl, max: 2 });
  pool.on("error", () => {}).on("connect", (client) => client.on("error", () => {}));
  await installPeer(pool);
  await pool.end();
  const deployer = startLoadDeployer(stack.deployerUrl);
  try {
    const asShipped = await measureBeside(stack, deployer, stack.databaseUrl);
    write(`  ${describe(asShipped)}`);
    const withoutWait = await measureBeside(stack, deployer, withoutDiskWait(stack.databaseUrl));
    write(`  ${describe(withoutWait)} without waiting for the disk`);
    const services: number[] = [];
    for (let number = 0; number < SERVICES; number++) {
      services.push(await timed(() => addService(stack.client, number), deployer.claimed));
      await pause(1100); // the doorbell rests for a second after each ring; that wait would be the benchmark's doing
    }
    write(`  a service claimed after ${median(services).toFixed(0)} ms`);
    return resultsOf(asShipped, withoutWait, services);
  } finally {
    await deployer.stop();
  }
}

/** Milliseconds of each. */
interface Latencies {
  rows: number[];
  jobs: number[];
}

/** Turn by turn, so that what else the machine does meets both. @param peerUrl where the peer's worker finds its jobs */
async function measureBeside(stack: LoadStack, deployer: ClaimingProgram, peerUrl: string): Promise<Latencies> {
  const peer = startPeerWorker(peerUrl);
  try {
    const measured: Latencies = { rows: [], jobs: [] };
    for (let round = 0; round < WARM_UP + ROUNDS; round++) {
      const row = await timed(() => addRow(stack.client), deployer.claimed);
      const job = await timed(() => addPeerJob(stack.client), peer.claimed);
      if (round < WARM_UP) continue;
      measured.rows.push(row);
      measured.jobs.push(job);
    }
    return measured;
  } finally {
    await peer.stop();
  }
}

function describe({ rows, jobs }: Latencies): string {
  return `a row claimed after ${median(rows).toFixed(2)} ms, a job started after ${median(jobs).toFixed(2)} ms`;
}

/** Milliseconds from the commit, which `add` resolves with. */
async function timed(add: () => Promise<string>, claimed: (id: string) => Promise<number>): Promise<number> {
  await pause(REST_MS);
  const id = await add();
  const committedAt = performance.timeOrigin + performance.now();
  return await claimed(id) - committedAt;
}

/** A revision that wants its service stopped: it needs no manifest. */
async function addRow(client: pg.Client): Promise<string> {
  const { rows: [row] } = await client.query(
    `with added as (
      insert into osp_metadata.worker_registry (service_schema, manifest_path, revision, source, stop_requested_at)
      values ('latency_' || $1, 'manifests/latency.json', 1, 'disable', clock_timestamp())
      returning id
    )
    select id, pg_notify('worker_registry', '') from added`,
    [randomUUID()],
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

function resultsOf(asShipped: Latencies, withoutWait: Latencies, services: number[]): BenchResult[] {
  return [
    ratioOf("claim_latency_to_peer", 1, asShipped),
    ratioOf("claim_latency_to_peer_without_disk_wait", null, withoutWait),
    createResult({
      name: "service_committed_to_claimed_p50",
      value: median(services),
      unit: "ms",
      goal: null,
      raw: { services: services.length, service_to_claimed_ms: services },
    }),
  ];
}

function ratioOf(name: string, goal: number | null, { rows, jobs }: Latencies): BenchResult {
  const [row, job] = [median(rows), median(jobs)];
  return createResult({
    name,
    value: row / job,
    unit: "ratio",
    goal,
    raw: {
      row_to_claimed_p50_ms: row,
      job_to_started_p50_ms: job,
      row_to_claimed_ms: rows,
      job_to_started_ms: jobs,
    },
  });
}
