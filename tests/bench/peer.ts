import { Logger, makeWorkerUtils, run, type Runner } from "graphile-worker";
import type pg from "pg";

/** A queue on Postgres that people know for its speed, in our database beside our tables. */
const silent = new Logger(() => () => {});

/** How it fetches and ends jobs; what is left out is its default. */
export interface PeerSettings {
  concurrency: number;
  /** Jobs fetched in one statement. Left out: one. */
  batchSize?: number;
  /** Ends jobs in batches as well; by default each by a statement of its own. */
  completesInBatches?: boolean;
}

/** Where the peer's sessions do not wait for the disk when they commit, as our claims do not; by its defaults they do. */
export function withoutDiskWait(databaseUrl: string): string {
  const url = new URL(databaseUrl);
  url.searchParams.set("options", "-c synchronous_commit=off");
  return url.href;
}

export async function installPeer(pool: pg.Pool): Promise<void> {
  const utils = await makeWorkerUtils({ pgPool: pool, logger: silent });
  await utils.migrate();
  await utils.release();
}

/** Adds so many jobs in one statement. */
export async function addPeerJobs(client: pg.ClientBase, count: number): Promise<void> {
  await client.query(
    `select graphile_worker.add_jobs(array(
      select ('noop', json_build_object('number', number)::json, null, null, null, null, null, null)::graphile_worker.job_spec
      from generate_series(1, $1::integer) as number
    ))`,
    [count],
  );
  await client.query(`vacuum analyze graphile_worker._private_jobs`);
}

/** One job, committed when this resolves; its id. */
export async function addPeerJob(client: pg.ClientBase): Promise<string> {
  const { rows: [row] } = await client.query(`select id::text from graphile_worker.add_job('noop', '{"number": 1}')`);
  return row.id;
}

/** Works in this process until it is stopped. */
export async function runPeer(
  pool: pg.Pool,
  { concurrency, batchSize, completesInBatches = false }: PeerSettings,
  onStarted: (jobId: string) => void,
): Promise<Runner> {
  return await run({
    pgPool: pool,
    logger: silent,
    noHandleSignals: true,
    preset: {
      worker: {
        concurrentJobs: concurrency,
        ...(batchSize === undefined ? {} : { localQueue: { size: batchSize } }),
        ...(completesInBatches ? { completeJobBatchDelay: 0, failJobBatchDelay: 0 } : {}),
      },
    },
    taskList: { noop: (_payload, { job }) => onStarted(job.id) },
  });
}
