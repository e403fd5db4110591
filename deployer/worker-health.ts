import { setTimeout as pause } from "node:timers/promises";
import type { Logger } from "pino";
import pLimit from "p-limit";
import type { Pool } from "pg";
import { z } from "zod";
import type { WorkerIdentity } from "../supabase/functions/_shared/worker-identity.ts";
import { createComplaint } from "./complaint.ts";
import { within } from "./connection.ts";

export interface WorkerHealthDeps {
  pool: Pool;
  platform: string;
  /** How often Temporal is asked, by all deployers of the database together. */
  everySeconds: number;
  /** Undefined: Temporal keeps no heartbeats. */
  listLivingWorkers: (signal: AbortSignal) => Promise<WorkerIdentity[] | undefined>;
  /** Asked instead, one service after the other. */
  pollersOf: (taskQueue: string) => Promise<WorkerIdentity[]>;
  log: Logger;
}

/** It holds no lease, and of a hundred thousand workers it takes its time. */
const RECORD_TIMEOUT_MS = 60_000;

const silentSchema = z.object({ service_schema: z.string(), revision: z.int(), seen_at: z.date() });
type Silent = z.infer<typeof silentSchema>;

/**
 * Writes down which workers live (`last_health_check`), again and again until the signal aborts, and logs once of each that
 * is not seen any more, though it is deployed.
 */
export async function watchWorkerHealth(deps: WorkerHealthDeps, signal: AbortSignal): Promise<void> {
  const { everySeconds, log } = deps;
  const complaint = createComplaint(log, "worker_health");
  let known = new Set<string>();
  while (!signal.aborted) {
    await pause(everySeconds * 500, undefined, { signal }).catch(() => {});
    const silent = signal.aborted ? undefined : await complaint.about(checkOnce(deps, signal), undefined);
    if (silent !== undefined) known = tell(silent, known, log);
  }
}

/** Undefined: another deployer had its turn. */
async function checkOnce(deps: WorkerHealthDeps, signal: AbortSignal): Promise<Silent[] | undefined> {
  const { pool, platform, everySeconds } = deps;
  const turn = await pool.query(`select osp_metadata.take_health_turn($1, $2) as is_ours`, [platform, everySeconds]);
  if (!z.tuple([z.object({ is_ours: z.boolean() })]).parse(turn.rows)[0].is_ours) return undefined;
  const living = await deps.listLivingWorkers(signal) ?? await findPollers(deps, signal);
  const seen = JSON.stringify(living.map((worker) => ({
    service_schema: worker.serviceSchema,
    revision: worker.revision,
    worker_version: worker.workerVersion,
  })));
  const { rows } = await pool.query(
    within(RECORD_TIMEOUT_MS, `select * from osp_metadata.record_health($1, $2)`, [platform, seen]),
  );
  return z.array(silentSchema).parse(rows);
}

const deployedSchema = z.object({ service_schema: z.string(), revision: z.int(), task_queues: z.array(z.string()) });
/** Asked at once: an unhurried look must not crowd out what is deployed meanwhile. */
const MOST_ASKED = 8;

/** The workers of what is deployed that poll all their task queues. */
async function findPollers(
  { pool, platform, pollersOf }: WorkerHealthDeps,
  signal: AbortSignal,
): Promise<WorkerIdentity[]> {
  const deployed = z.array(deployedSchema).parse(
    (await pool.query(within(RECORD_TIMEOUT_MS, DEPLOYED, [platform]))).rows,
  );
  const limit = pLimit(MOST_ASKED);
  const found = await limit.map(deployed, async ({ service_schema, revision, task_queues }) => {
    signal.throwIfAborted();
    const perQueue = await Promise.all(
      task_queues.map(async (queue) =>
        (await pollersOf(queue)).find((worker) =>
          worker.serviceSchema === service_schema && worker.revision === revision
        )
      ),
    );
    return perQueue.includes(undefined) ? undefined : perQueue[0];
  });
  return found.filter((worker) => worker !== undefined);
}

/** $1 platform. */
const DEPLOYED = `
select
  r.service_schema, r.revision,
  array(select distinct w ->> 'task_queue' from jsonb_array_elements(r.manifest -> 'workflows') as w) as task_queues
from osp_metadata.worker_registry as r
where r.platform = $1 and r.deployment_status = 'deployed' and r.manifest is not null`;

/** Those that are silent now, to be told apart from those that fall silent next. */
function tell(silent: Silent[], known: ReadonlySet<string>, log: Logger): Set<string> {
  const keys = new Map(silent.map((worker) => [`${worker.service_schema}/${worker.revision}`, worker]));
  for (const [key, { service_schema, revision, seen_at }] of keys) {
    if (!known.has(key)) log.warn({ event: "worker.silent", service_schema, revision, seen_at });
  }
  return new Set(keys.keys());
}
