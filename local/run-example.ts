import { Client as TemporalClient, Connection, WorkflowFailedError } from "@temporalio/client";
import { isDeepStrictEqual } from "node:util";
import { setTimeout as pause } from "node:timers/promises";
import pg from "pg";
import { z } from "zod";
import { taskQueueOf } from "../supabase/functions/_shared/manifest.ts";
import { formatError } from "../supabase/functions/_shared/problems.ts";
import { serviceSchema } from "../supabase/functions/_shared/service.ts";
import type { Example } from "./examples.ts";
import type { StackAddresses } from "./stack-programs.ts";

export interface WorkflowOutcome {
  name: string;
  result: unknown;
  /** Null: it ended well. */
  error: string | null;
  isAsExpected: boolean;
}

export interface ExampleOutcome {
  service_schema: string;
  deployment_status: string;
  /** From the request in the database to the worker's first poll, in milliseconds. */
  insert_to_polling_ms: number | null;
  error: string | null;
  workflows: WorkflowOutcome[];
}

/** On a stand-in of Railway an image is built first, with all its packages. */
const DEPLOY_TIMEOUT_MS = 300_000;
const WORKFLOW_TIMEOUT_MS = 60_000;

/** Inserts an example's row, as OSP does it. False: it is there already, and stays as it is. */
export async function insertExample({ service }: Example, databaseUrl: string): Promise<boolean> {
  return await withClient(databaseUrl, async (client) => {
    const { rowCount } = await client.query(
      `insert into osp.services (service_schema, service_name, workflows) values ($1, $2, $3) on conflict (service_schema) do nothing`,
      [service.service_schema, service.service_name, JSON.stringify(service.workflows)],
    );
    return rowCount === 1;
  });
}

/** Follows an example's row until its worker runs, and runs each workflow that the row has by now once. */
export async function followExample(
  example: Example,
  addresses: StackAddresses,
  onStatus: (status: string) => void,
  signal: AbortSignal,
): Promise<ExampleOutcome> {
  const { service_schema } = example.service;
  return await withClient(addresses.DB_URL, async (client) => {
    const deployment = await untilDeployed(service_schema, client, onStatus, signal);
    const isDeployed = deployment.deployment_status === "deployed";
    if (isDeployed) onStatus("running its workflows");
    const workflows = isDeployed
      ? await runWorkflows(example, await readService(service_schema, client), addresses.TEMPORAL_ADDRESS, signal)
      : [];
    return { service_schema, ...deployment, workflows };
  });
}

export function isSuccess(outcome: ExampleOutcome): boolean {
  return outcome.deployment_status === "deployed" && outcome.workflows.length > 0 &&
    outcome.workflows.every((workflow) => workflow.isAsExpected);
}

const rowSchema = z.object({
  deployment_status: z.string(),
  insert_to_polling_ms: z.number().nullable(),
  error: z.string().nullable(),
});

async function untilDeployed(
  schema: string,
  client: pg.Client,
  onStatus: (status: string) => void,
  signal: AbortSignal,
) {
  const deadline = Date.now() + DEPLOY_TIMEOUT_MS;
  let shown: string | undefined;
  for (;;) {
    const { rows } = await client.query(STATUS, [schema]);
    const row = rowSchema.parse(rows[0]);
    for (const status of between(shown, row.deployment_status)) onStatus(status);
    shown = row.deployment_status;
    if (["deployed", "failed", "stopped"].includes(shown) || Date.now() > deadline) return row;
    await pause(25, undefined, { signal });
  }
}

/** The way of a row that is deployed. */
const WAY = ["requested", "pending", "deploying", "deployed"];

/** What to show next: the new status, and before it those that came and went since the last look. */
function between(shown: string | undefined, status: string): string[] {
  if (status === shown) return [];
  const [from, to] = [WAY.indexOf(shown ?? status), WAY.indexOf(status)];
  return shown !== undefined && from >= 0 && to > from ? WAY.slice(from + 1, to + 1) : [status];
}

const STATUS = `
select
  coalesce(r.deployment_status, 'requested') as deployment_status,
  (extract(epoch from r.deployed_at - i.requested_at) * 1000)::integer as insert_to_polling_ms,
  r.error_message as error
from osp_metadata.service_intents as i
left join osp_metadata.worker_registry as r on r.id = i.deployment_id
where i.service_schema = $1`;

const serviceRow = z.object({ workflows: serviceSchema.shape.workflows, activity_endpoint: z.string().nullable() });
type ServiceRow = z.infer<typeof serviceRow>;

async function readService(schema: string, client: pg.Client): Promise<ServiceRow> {
  const { rows } = await client.query(
    `select workflows, options ->> 'activity_endpoint' as activity_endpoint from osp.services where service_schema = $1`,
    [schema],
  );
  return serviceRow.parse(rows[0]);
}

async function runWorkflows(
  { service, inputs }: Example,
  { workflows, activity_endpoint }: ServiceRow,
  address: string,
  signal: AbortSignal,
): Promise<WorkflowOutcome[]> {
  const connection = await Connection.connect({ address });
  try {
    const temporal = new TemporalClient({ connection });
    const run = async ({ name, activities }: ServiceRow["workflows"][number]): Promise<WorkflowOutcome> => {
      const input = inputs[name] ?? {}; // one that the row has by now, and the example has not
      try {
        const result: unknown = await temporal.workflow.execute(name, {
          taskQueue: taskQueueOf(service.service_schema),
          workflowId: `${service.service_schema}-${name}-${crypto.randomUUID()}`,
          args: [input],
          workflowExecutionTimeout: WORKFLOW_TIMEOUT_MS,
        });
        // An endpoint of the row's own answers what it likes.
        const isAsExpected = activity_endpoint !== null ||
          isDeepStrictEqual(result, expectedResult(activities, input));
        return { name, result, error: null, isAsExpected };
      } catch (error) {
        if (signal.aborted) throw error;
        const reason = error instanceof WorkflowFailedError ? error.cause : error;
        return { name, result: null, error: formatError(reason), isAsExpected: false };
      }
    };
    // All of them end before the connection does: the client goes on asking otherwise.
    const settled = await connection.withAbortSignal(signal, () => Promise.allSettled(workflows.map(run)));
    return settled.map((outcome) => {
      if (outcome.status === "fulfilled") return outcome.value;
      throw outcome.reason;
    });
  } finally {
    await connection.close();
  }
}

/** What the example activity server makes of a workflow whose activities ran in order, each on the one before. */
function expectedResult(activities: string[], input: unknown) {
  return { steps: activities, input };
}

async function withClient<Result>(url: string, work: (client: pg.Client) => Promise<Result>): Promise<Result> {
  const client = new pg.Client({ connectionString: url });
  client.on("error", () => {}); // cut while waiting: the next query tells it
  await client.connect();
  try {
    return await work(client);
  } finally {
    await client.end();
  }
}
