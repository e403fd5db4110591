import { spawn } from "node:child_process";
import { once } from "node:events";
import { setTimeout as pause } from "node:timers/promises";
import type pg from "pg";
import { z } from "zod";
import { cacheDirectory } from "../../host/cache-directory.ts";
import { identifyProcess, signalProcess } from "../../host/process-identity.ts";
import { REPOSITORY } from "../../local/config.ts";
import { type BenchResult, createResult, median } from "./result.ts";
import type { StackToMeasure } from "./scratch.ts";

const CRASHES = 20;
const GOAL_S = 15;
const TIMEOUT_MS = 120_000;

/**
 * A deployer is killed while it has a deployment in hand and another stands by: how long until that row runs. With real workers
 * and the product's own lease of 10 s. The stack starts its deployer again a second after it was killed, and so do we ours.
 */
export async function measureCrash(stack: StackToMeasure, write: (line: string) => void): Promise<BenchResult[]> {
  const second = await keepSecondDeployer(stack);
  const seconds: number[] = [];
  try {
    for (let crash = 1; crash <= CRASHES; crash++) {
      const took = await crashOnce(stack.client, `crash_${crash}`);
      seconds.push(took);
      write(`  crash ${crash}: running again after ${took.toFixed(1)} s`);
    }
  } finally {
    await second.stop();
  }
  const figure = { unit: "s", goal: GOAL_S } as const;
  return [
    createResult({
      name: "deployer_killed_to_running_p50",
      value: median(seconds),
      ...figure,
      raw: { crashes: CRASHES, killed_to_running_s: seconds },
    }),
    createResult({
      name: "deployer_killed_to_running_max",
      value: Math.max(...seconds),
      ...figure,
      raw: { crashes: CRASHES },
    }),
  ];
}

/** Seconds from the SIGKILL of the deployer that has a new service in hand until that service runs. */
async function crashOnce(client: pg.Client, serviceSchema: string): Promise<number> {
  await untilTwoDeployers(client);
  await client.query(
    `insert into osp.services (service_schema, service_name, workflows)
    values ($1, 'A Service', '[{"name": "doWork", "activities": ["work"]}]')`,
    [serviceSchema],
  );
  const { lease_owner } = await until(client, serviceSchema, "deploying");
  const deployer = identifyProcess(Number(lease_owner?.split(":").at(-1)));
  if (deployer === undefined) throw new Error(`Cannot measure: deployer ${lease_owner} does not run`);
  const killedAt = performance.now();
  signalProcess(deployer, "SIGKILL");
  await until(client, serviceSchema, "deployed");
  const seconds = (performance.now() - killedAt) / 1000;
  await client.query(`delete from osp.services where service_schema = $1`, [serviceSchema]);
  await until(client, serviceSchema, "stopped", 2);
  return seconds;
}

const rowSchema = z.object({ lease_owner: z.string().nullable(), error_message: z.string().nullable() });

async function until(client: pg.Client, serviceSchema: string, status: string, revision = 1) {
  for (const deadline = performance.now() + TIMEOUT_MS; performance.now() < deadline; await pause(10)) {
    const { rows } = await client.query(
      `select deployment_status = $3 as is_there, deployment_status = 'failed' as is_failed, lease_owner, error_message
      from osp_metadata.worker_registry where service_schema = $1 and revision = $2`,
      [serviceSchema, revision, status],
    );
    if (rows[0]?.is_there) return rowSchema.parse(rows[0]);
    if (rows[0]?.is_failed) throw new Error(`Cannot measure: ${serviceSchema} failed: ${rows[0].error_message}`);
  }
  throw new Error(`Cannot measure: ${serviceSchema} revision ${revision} is not ${status} after ${TIMEOUT_MS} ms`);
}

/** Both listen, and one of them supervises the workers. */
async function untilTwoDeployers(client: pg.Client): Promise<void> {
  for (const deadline = performance.now() + TIMEOUT_MS; performance.now() < deadline; await pause(50)) {
    const { rows: [row] } = await client.query(
      `select
        (select count(*) from pg_stat_activity where query = 'listen worker_registry') = 2 as are_two,
        exists (
          select from pg_locks where locktype = 'advisory' and granted and classid = hashtext('osp supervisor')::oid
        ) as is_supervised`,
    );
    if (row.are_two && row.is_supervised) return;
  }
  throw new Error(`Cannot measure: there are no two deployers after ${TIMEOUT_MS} ms`);
}

/** A second deployer of the same machine and the same workers, started again whenever it ends. */
async function keepSecondDeployer(
  { client, addresses, config }: StackToMeasure,
): Promise<{ stop(): Promise<void> }> {
  await client.query(`create role osp_bench_deployer login password 'osp_bench' in role osp_deployer`);
  const url = new URL(addresses.DB_URL);
  url.username = "osp_bench_deployer";
  url.password = "osp_bench";
  const environment = {
    PATH: process.env["PATH"] ?? "",
    HOME: process.env["HOME"] ?? "",
    OSP_CACHE_DIR: cacheDirectory(process.env),
    DATABASE_URL: url.href,
    OSP_PLATFORM: "local",
    OSP_STATE_DIR: config.OSP_STATE_DIR,
    TEMPORAL_ADDRESS: addresses.TEMPORAL_ADDRESS,
    // The stack's: with others it would start the workers anew.
    OSP_ACTIVITY_NETWORKS: config.OSP_ACTIVITY_NETWORKS,
    OSP_ACTIVITY_PLAIN_HTTP: config.OSP_ACTIVITY_PLAIN_HTTP,
    OSP_DRAIN_SECONDS: "5",
  };
  const start = () =>
    spawn(process.execPath, ["deployer/main.ts"], { cwd: REPOSITORY, env: environment, stdio: "ignore" });
  let isStopping = false;
  let child = start();
  const kept = (async () => {
    for (;;) {
      await once(child, "exit");
      if (isStopping) return;
      await pause(1000);
      child = start();
    }
  })();
  return {
    async stop() {
      isStopping = true;
      child.kill("SIGTERM");
      await kept;
    },
  };
}
