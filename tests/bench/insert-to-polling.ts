import { setTimeout as pause } from "node:timers/promises";
import { z } from "zod";
import { firstExample } from "../../local/examples.ts";
import { type BenchResult, createResult, median } from "./result.ts";
import type { StackToMeasure } from "./scratch.ts";
import { readWorkerStart, type WorkerStart } from "./worker-start.ts";

const INSERTS = 20;
/** Without a rest before them, for information. */
const HURRIED_INSERTS = 10;
const GOAL_P50_MS = 1500;
const TIMEOUT_MS = 120_000;

type Deployment = WorkerStart & { pollingMs: number };

/**
 * From an insert to a worker that polls: one service after the other, each new, and deleted before the next so that one
 * worker runs at a time. The first is counted like the rest.
 */
export async function measureInsertToPolling(
  stack: StackToMeasure,
  write: (line: string) => void,
): Promise<BenchResult[]> {
  const rested: Deployment[] = [];
  const hurried: Deployment[] = [];
  for (let number = 1; number <= INSERTS + HURRIED_INSERTS; number++) {
    const isHurried = number > INSERTS;
    if (!isHurried) await untilDoorbellRests(stack);
    const deployment = await deployOnce(stack, `bench_${number}`);
    (isHurried ? hurried : rested).push(deployment);
    write(
      `  insert ${number}${isHurried ? ", right after a delete" : ""}: polling after ${
        deployment.pollingMs.toFixed(0)
      } ms, of which the worker's start ${deployment.startMs.toFixed(0)} ms`,
    );
  }
  return resultsOf(rested, hurried);
}

/**
 * Our own delete rings as well, and pg_net then sends nothing for up to a second (local/doorbell.ts): that wait would be
 * the benchmark's doing. The hurried inserts show it.
 */
async function untilDoorbellRests({ client }: StackToMeasure): Promise<void> {
  for (const deadline = Date.now() + TIMEOUT_MS; Date.now() < deadline; await pause(50)) {
    const { rows: [row] } = await client.query(
      `select not exists (select from net.http_request_queue)
        and not exists (select from net._http_response where created > clock_timestamp() - interval '2 s') as rests`,
    );
    if (row.rests) return;
  }
  throw new Error(`Cannot measure: the doorbell has not come to rest in ${TIMEOUT_MS} ms`);
}

async function deployOnce(stack: StackToMeasure, serviceSchema: string): Promise<Deployment> {
  const { service } = firstExample();
  await stack.client.query(
    `insert into osp.services (service_schema, service_name, workflows) values ($1, $2, $3)`,
    [serviceSchema, service.service_name, JSON.stringify(service.workflows)],
  );
  const pollingMs = await untilSettled(stack, serviceSchema, "deployed");
  const start = await readWorkerStart(stack.config.OSP_STATE_DIR, serviceSchema);
  await stack.client.query(`delete from osp.services where service_schema = $1`, [serviceSchema]);
  await untilSettled(stack, serviceSchema, "stopped");
  return { pollingMs, ...start };
}

const rowSchema = z.object({
  deployment_status: z.string().nullable(),
  polling_ms: z.number().nullable(),
  error_message: z.string().nullable(),
});

/** By the database's clock alone, so how often we ask does not matter. */
const STATUS = `
select
  r.deployment_status,
  (extract(epoch from r.deployed_at - i.requested_at) * 1000)::double precision as polling_ms,
  r.error_message
from osp_metadata.service_intents as i
left join osp_metadata.worker_registry as r on r.id = i.deployment_id
where i.service_schema = $1`;

/** Resolves with the time from request to deployment when the newest revision has come to `wanted`; 0 for a stop. */
async function untilSettled({ client }: StackToMeasure, serviceSchema: string, wanted: string): Promise<number> {
  for (const deadline = Date.now() + TIMEOUT_MS;; await pause(25)) {
    const { rows } = await client.query(STATUS, [serviceSchema]);
    const { deployment_status, polling_ms, error_message } = rowSchema.parse(rows[0]);
    if (deployment_status === wanted) return polling_ms ?? 0;
    if (deployment_status === "failed" || Date.now() > deadline) {
      throw new Error(
        `Cannot measure ${serviceSchema}: wanted ${wanted}, it is ${deployment_status} (${
          error_message ?? "no error"
        })`,
      );
    }
  }
}

function resultsOf(rested: Deployment[], hurried: Deployment[]): BenchResult[] {
  const polling = rested.map(({ pollingMs }) => pollingMs);
  const pollingP50 = median(polling);
  const startP50 = median(rested.map(({ startMs }) => startMs));
  const loadP50 = median(rested.map(({ loadMs }) => loadMs));
  const raw = { inserts: rested.length, polling_p50_ms: pollingP50, worker_start_p50_ms: startP50 };
  const hurriedPolling = hurried.map(({ pollingMs }) => pollingMs);
  const information = { unit: "ms", goal: null } as const;
  return [
    createResult({
      name: "insert_to_polling_p50",
      value: pollingP50,
      unit: "ms",
      goal: GOAL_P50_MS,
      raw: { ...raw, worker_load_p50_ms: loadP50, polling_ms: polling },
    }),
    createResult({ name: "insert_to_polling_max", value: Math.max(...polling), ...information, raw }),
    createResult({
      name: "insert_to_polling_to_worker_start",
      value: pollingP50 / startP50,
      unit: "ratio",
      goal: null,
      raw,
    }),
    createResult({
      name: "insert_after_delete_to_polling_p50",
      value: median(hurriedPolling),
      ...information,
      raw: {
        inserts: hurried.length,
        worker_start_p50_ms: median(hurried.map(({ startMs }) => startMs)),
        polling_ms: hurriedPolling,
      },
    }),
  ];
}
