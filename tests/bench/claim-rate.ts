import pg from "pg";
import { openPool } from "../../deployer/open-pool.ts";
import { createRegistry } from "../../deployer/registry.ts";
import type { LoadStack } from "./load-stack.ts";
import { addPeerJobs, installPeer, runPeer, withoutDiskWait } from "./peer.ts";
import { type BenchResult, createResult, median } from "./result.ts";

const ROWS = 5000;
const BATCH = 100;
const ROUNDS = 5;
/** The peer's, as its documentation has it in its examples; more does not make it faster on two processors. */
const CONCURRENCY = 10;

interface Round {
  claims: number;
  jobs: number;
  jobsEndedInBatches: number;
}

/**
 * How many rows a deployer claims in a second, a hundred in one statement, beside how many jobs the peer works through with the
 * same number in one fetch, on as many connections. A claim writes the row and its attempt; a job of the peer is fetched and
 * ended. Ours are settled between two claims, outside of the measured time, as a deployer holds no more than it works on.
 * Neither waits for the disk (synchronous_commit off): of ours the first report does, which is not measured.
 */
export async function measureClaimRate(stack: LoadStack, write: (line: string) => void): Promise<BenchResult[]> {
  const [deployers, peers] = [openPool(stack.deployerUrl, 60), openPool(withoutDiskWait(stack.databaseUrl), 60)];
  for (const pool of [deployers, peers]) pool.on("connect", (client) => client.on("error", () => {}));
  write("  not like for like: of ours claims alone are timed, of the peer's jobs fetching and ending");
  try {
    await installPeer(peers);
    const rounds: Round[] = [];
    for (let round = 0; round <= ROUNDS; round++) {
      const measured = {
        claims: await claimsPerSecond(stack.client, deployers),
        jobs: await jobsPerSecond(peers, false),
        jobsEndedInBatches: await jobsPerSecond(peers, true),
      };
      if (round > 0) rounds.push(measured); // the first is a warm-up
      write(
        `  ${round === 0 ? "warm-up" : `round ${round}`}: ${measured.claims.toFixed(0)} claims/s, ` +
          `${measured.jobs.toFixed(0)} jobs/s, ended in batches ${measured.jobsEndedInBatches.toFixed(0)} jobs/s`,
      );
    }
    return resultsOf(rounds);
  } finally {
    await Promise.all([deployers.end(), peers.end()]);
  }
}

async function claimsPerSecond(client: pg.Client, pool: pg.Pool): Promise<number> {
  await client.query(
    `insert into osp_metadata.worker_registry (service_schema, manifest_path, revision, source, manifest, logs)
    select 'rate_' || number, 'manifests/rate.json', 1, 'insert', jsonb_build_object('filler', repeat('x', 500)), 'enqueued'
    from generate_series(1, ${ROWS}) as number`,
  );
  await client.query(`vacuum analyze osp_metadata.worker_registry`);
  const registry = createRegistry(pool, {
    owner: "bench",
    platform: "local",
    leaseSeconds: 60,
    renewTimeoutMs: 30_000,
  });
  let claimed = 0;
  let tookMs = 0;
  while (claimed < ROWS) {
    const startedAt = performance.now();
    const claims = await registry.claim(BATCH);
    tookMs += performance.now() - startedAt;
    claimed += claims.length;
    await Promise.all(claims.map((claim) => registry.settle(claim, { outcome: "stopped" })));
  }
  await client.query(`delete from osp_metadata.worker_registry where service_schema like 'rate_%'`);
  return claimed / tookMs * 1000;
}

async function jobsPerSecond(pool: pg.Pool, completesInBatches: boolean): Promise<number> {
  const client = await pool.connect();
  await addPeerJobs(client, ROWS).finally(() => client.release());
  const { promise: allStarted, resolve } = Promise.withResolvers<void>();
  let started = 0;
  const startedAt = performance.now();
  const runner = await runPeer(pool, { concurrency: CONCURRENCY, batchSize: BATCH, completesInBatches }, () => {
    if (++started === ROWS) resolve();
  });
  await allStarted;
  const tookMs = performance.now() - startedAt;
  await runner.stop();
  return ROWS / tookMs * 1000;
}

function resultsOf(rounds: Round[]): BenchResult[] {
  const of = (pick: keyof Round) => rounds.map((round) => round[pick]);
  const [claims, jobs, batched] = [median(of("claims")), median(of("jobs")), median(of("jobsEndedInBatches"))];
  return [
    createResult({
      name: "claims_per_second_to_peer",
      value: claims / jobs,
      unit: "ratio",
      goal: 1,
      bound: "at least",
      raw: { rows: ROWS, batch: BATCH, claims_per_second: claims, jobs_per_second: jobs },
    }),
    createResult({
      name: "claims_per_second_to_peer_that_ends_in_batches",
      value: claims / batched,
      unit: "ratio",
      goal: null,
      raw: { rows: ROWS, batch: BATCH, claims_per_second: claims, jobs_per_second: batched },
    }),
  ];
}
