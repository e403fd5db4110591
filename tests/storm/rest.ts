import { isDeepStrictEqual } from "node:util";
import { z } from "zod";
import { createTemporalReadiness } from "../../deployer/readiness/temporal-readiness.ts";
import { openTemporal } from "../../deployer/readiness/temporal-service.ts";
import { manifestSchema, taskQueueOf } from "../../supabase/functions/_shared/manifest.ts";
import { formatError } from "../../supabase/functions/_shared/problems.ts";
import { resolvedOptionsSchema } from "../../supabase/functions/_shared/service-options.ts";
import { type Model, mustFail, type ServiceRow, SERVICES } from "./model.ts";
import { differences, inSession, readServices } from "./sessions.ts";
import type { StormStack } from "./stack.ts";
import { NEVER } from "./statements.ts";
import { type RecordedWorker, type WorkerProcess, workerProcesses, workerRecords } from "./workers.ts";
import type { WorkerRecord } from "../../deployer/platforms/local/worker-record.ts";

const workflowsSchema = z.array(z.object({ name: z.string(), activities: z.array(z.string()) }));

const deploymentSchema = z.object({
  id: z.string(),
  service_schema: z.string(),
  revision: z.int(),
  source: z.string(),
  deployment_status: z.string(),
  deployed_at: z.string().nullable(),
  error_code: z.string().nullable(),
  error_message: z.string().nullable(),
  logs: z.string(),
  spec: z.looseObject({
    service_name: z.string(),
    workflows: workflowsSchema,
    options: z.record(z.string(), z.unknown()),
  })
    .nullable(),
  manifest: manifestSchema.nullable(),
});
type Deployment = z.infer<typeof deploymentSchema>;

const tablesSchema = z.object({
  /** Newest first. */
  deployments: z.array(deploymentSchema),
  intents: z.array(z.object({
    service_schema: z.string(),
    revision: z.int(),
    enqueued_revision: z.int(),
    wanted: z.string(),
  })),
  attempts: z.array(z.object({
    service_schema: z.string(),
    revision: z.int(),
    deployer: z.string(),
    outcome: z.string().nullable(),
    error_message: z.string().nullable(),
  })),
  states: z.record(z.string(), z.string()),
  /** Services that were reported as orphans. */
  orphans: z.array(z.string()),
});
type Tables = z.infer<typeof tablesSchema>;

const TABLES = `
select
  (select coalesce(jsonb_agg(to_jsonb(r) order by r.revision desc), '[]') from osp_metadata.worker_registry as r) as deployments,
  (select coalesce(jsonb_agg(to_jsonb(i)), '[]') from osp_metadata.service_intents as i) as intents,
  (select coalesce(jsonb_agg(to_jsonb(a) order by a.id), '[]') from osp_metadata.deployment_attempts as a) as attempts,
  (select coalesce(jsonb_object_agg(s.service_schema, s.state), '{}') from osp_metadata.worker_status as s) as states,
  (select coalesce(jsonb_agg(o.service_schema), '[]') from osp_metadata.orphans as o) as orphans`;

/** What the machine runs. */
interface Machine {
  processes: Map<string, WorkerProcess[]>;
  records: RecordedWorker[];
}

/** What is not yet, or not any more, as osp.services says, a line each. None: the fleet equals the table. */
export async function findUnrest(stack: StormStack, model: Model): Promise<string[]> {
  const { tables, found } = await inSession(stack.addresses.DB_URL, async (client) => {
    const { rows: [row] } = await client.query(TABLES);
    return { tables: tablesSchema.parse(row), found: await readServices(client) };
  });
  const machine = {
    processes: workerProcesses(stack.workersDirectory),
    records: workerRecords(stack.workersDirectory),
  };
  return [...differences(model, found), ...tableProblems(tables), ...fleetProblems(model, tables, machine)];
}

/** In `logs` of every deployment that was stopped: by what, or that the platform lost its worker. */
const STOPPED_BECAUSE =
  /(superseded|replaced|stopped) by revision \d|a newer revision takes over|nothing of the service runs|platform \w+.*: a new revision is requested/;

/** What the tables must be at rest, whatever runs. Pure. */
export function tableProblems({ deployments, intents, attempts }: Tables): string[] {
  return [
    ...intents.filter((intent) => intent.revision > intent.enqueued_revision)
      .map(({ service_schema, revision }) => `${service_schema}: revision ${revision} is not enqueued`),
    ...deployments.flatMap((row) => {
      const what = `${row.service_schema} revision ${row.revision}`;
      const { deployment_status: status, error_code, error_message } = row;
      if (status === "pending" || status === "deploying") return [`${what}: still ${status}`];
      if (status === "failed" && !(error_code && error_message)) return [`${what}: failed without a reason`];
      if (status === "stopped" && !STOPPED_BECAUSE.test(row.logs)) {
        return [`${what}: stopped without a reason: ${JSON.stringify(row.logs)}`];
      }
      return row.spec?.service_name.startsWith(NEVER) ? [`${what}: made by a transaction that was rolled back`] : [];
    }),
    ...attempts.flatMap(({ service_schema, revision, deployer, outcome, error_message }) => {
      const what = `An attempt at ${service_schema} revision ${revision}`;
      if (outcome === null) return [`${what}: never ended`];
      return outcome === "abandoned" && !error_message?.includes(deployer)
        ? [`${what}: abandoned by nobody knows whom`]
        : [];
    }),
  ];
}

/** Each enabled service has its workers, all of the newest revision that could be deployed, and nothing else runs. Pure. */
export function fleetProblems(
  model: Model,
  tables: Pick<Tables, "deployments" | "intents" | "states" | "orphans">,
  machine: Machine,
): string[] {
  const services = new Set([
    ...SERVICES,
    ...machine.processes.keys(),
    ...machine.records.map((one) => one.service_schema),
  ]);
  return [...services].flatMap((service) => {
    const of = <Row extends { service_schema: string }>(rows: Row[]) =>
      rows.filter((row) => row.service_schema === service);
    const deployments = of(tables.deployments);
    const running = deployments.filter((row) => row.deployment_status === "deployed");
    const row = model.get(service);
    const problems = [
      ...row?.enabled === true
        ? wantedProblems(service, model, deployments, of(tables.intents)[0])
        : running.map(({ revision }) => `is not wanted, and revision ${revision} is deployed`),
      ...stateProblems(row, tables.states[service]),
    ];
    // Of a row that fails the older worker goes on, also one that the registry has forgotten: then it is reported.
    const goesOn = row?.enabled === true && mustFail(row) && tables.orphans.includes(service);
    const processes = machine.processes.get(service) ?? [];
    if (goesOn && running.length === 0 && isWhole(of(machine.records), processes)) return problems;
    return [...problems, ...workerProblems(running, processes, of(machine.records))]
      .map((problem) => `${service}: ${problem}`);
  });
}

/**
 * The workers of one revision, each on record, none of them twice; all of them, if they ever served. All run whose files are there: one whose
 * files were erased is on record alone.
 */
function isWhole(records: RecordedWorker[], processes: WorkerProcess[]): boolean {
  const [first] = records;
  return first !== undefined && processes.length === records.filter(({ hasFiles }) => hasFiles).length &&
    processes.every(({ revision }) => revision === first.revision) &&
    records.every(({ revision }) => revision === first.revision) &&
    (records.every(({ state }) => state === "candidate") || areReplicas(records, first.replicas));
}

/** Each of so many, once. */
function areReplicas(records: WorkerRecord[], wanted: number): boolean {
  return isDeepStrictEqual(
    sorted(records.map(({ replica }) => replica)),
    Array.from({ length: wanted }, (_, n) => n + 1),
  );
}

/** The registry says of a wanted service what it should. */
function wantedProblems(
  service: string,
  model: Model,
  deployments: Deployment[],
  intent: { revision: number; wanted: string } | undefined,
): string[] {
  const row = model.get(service);
  const newest = deployments.find(({ revision }) => revision === intent?.revision);
  if (row === undefined || intent?.wanted !== "run" || newest === undefined) {
    return [`is wanted, and its newest revision is ${JSON.stringify(newest ?? intent ?? "none")}`];
  }
  const { revision, deployment_status: status, spec } = newest;
  if (spec === null || !saysTheSame(spec, row)) {
    return [`revision ${revision} is not what the row says: ${JSON.stringify(spec)} instead of ${JSON.stringify(row)}`];
  }
  if (!mustFail(row)) {
    if (status !== "deployed") return [`revision ${revision} is ${status}: ${newest.error_message}`];
    return manifestProblems(newest, row);
  }
  if (status !== "failed") return [`revision ${revision} must fail, and is ${status}`];
  const older = deployments.find((one) => one.deployment_status !== "failed");
  // What ran before goes on, unless it was lost since: then the newest was requested in its place.
  const isWronglyStopped = older?.deployment_status === "stopped" && older.deployed_at !== null &&
    older.manifest !== null &&
    older.error_code === null;
  return isWronglyStopped ? [`revision ${older.revision} was stopped, though the newer one failed`] : [];
}

/** Whatever the order of members, which jsonb does not keep. */
function saysTheSame(spec: NonNullable<Deployment["spec"]>, { service_name, workflows, options }: ServiceRow): boolean {
  return isDeepStrictEqual(
    [spec.service_name, spec.workflows, spec.options],
    [service_name, workflows, options],
  );
}

/** What the worker runs from is what the row says. */
function manifestProblems(
  { revision, manifest, service_schema }: Deployment,
  { service_name, workflows, options }: ServiceRow,
) {
  if (manifest === null) return [`revision ${revision} is deployed without a manifest`];
  const found = {
    service_schema: manifest.service_schema,
    service_name: manifest.service_name,
    revision: manifest.revision,
    workflows: manifest.workflows.map(({ name, task_queue, activities }) => ({ name, task_queue, activities })),
    // The endpoint is what the project sets for all services.
    options: { ...manifest.options, activity_endpoint: undefined },
  };
  const wanted = {
    service_schema,
    service_name,
    revision,
    workflows: workflows.map((workflow) => ({ ...workflow, task_queue: taskQueueOf(service_schema) })),
    options: { ...resolvedOptionsSchema.parse(options), activity_endpoint: undefined },
  };
  return isDeepStrictEqual(found, wanted)
    ? []
    : [`the manifest of revision ${revision} says ${JSON.stringify(found)} instead of ${JSON.stringify(wanted)}`];
}

/** worker_status says of a service what its row does. */
function stateProblems(row: ServiceRow | undefined, state: string | undefined): string[] {
  if (row?.enabled !== true) {
    return state === undefined || state === "stopped" ? [] : [`worker_status says ${state} of it, which is not wanted`];
  }
  const right = mustFail(row) ? "failed" : "running";
  return state === right ? [] : [`worker_status says ${state ?? "nothing"} of it instead of ${right}`];
}

/** What runs of a service is what its registry says: as many workers as its manifest wants, each on record once. */
function workerProblems(running: Deployment[], processes: WorkerProcess[], records: WorkerRecord[]): string[] {
  const [deployed] = running;
  const told = processes.map(({ pid, revision }) => `${pid} (revision ${revision})`).join(" and ") || "none";
  if (deployed === undefined) {
    return [
      ...processes.length > 0 ? [`nothing is deployed, and it has worker ${told}`] : [],
      ...records.map(({ revision, state }) =>
        `nothing is deployed, and there is a record of revision ${revision}, ${state}`
      ),
    ];
  }
  const wanted = deployed.manifest?.options.replicas ?? 1;
  const onRecord = records.filter((record) => record.deployment_id === deployed.id && record.state === "current");
  const isRight = running.length === 1 && processes.length === wanted && records.length === wanted &&
    processes.every(({ revision }) => revision === deployed.revision) &&
    areReplicas(onRecord, wanted) &&
    isDeepStrictEqual(
      sorted(onRecord.map(({ process }) => process?.pid ?? 0)),
      sorted(processes.map(({ pid }) => pid)),
    );
  return isRight ? [] : [
    `revision ${deployed.revision} is deployed, to have ${wanted} worker${
      wanted === 1 ? "" : "s"
    }, and it has worker ` +
    `${told}; on record: ` +
    (records.map(({ revision, replica, state, process }) =>
      `revision ${revision} ${state} ${process?.pid} (replica ${replica})`
    ).join(", ") || "nothing"),
  ];
}

function sorted(numbers: number[]): number[] {
  return numbers.toSorted((one, other) => one - other);
}

/** Temporal's word on each deployed revision, a line for each that it does not see polling. */
export async function findUnseen(stack: StormStack): Promise<string[]> {
  const { rows } = await inSession(
    stack.addresses.DB_URL,
    (client) =>
      client.query(
        `select service_schema, revision, manifest from osp_metadata.worker_registry where deployment_status = 'deployed'`,
      ),
  );
  const deployed = z.array(z.object({ service_schema: z.string(), revision: z.int(), manifest: manifestSchema })).parse(
    rows,
  );
  const temporal = openTemporal({ TEMPORAL_ADDRESS: stack.addresses.TEMPORAL_ADDRESS });
  const readiness = createTemporalReadiness(temporal, 20_000);
  try {
    const answers = await Promise.all(deployed.map(async ({ service_schema: serviceSchema, revision, manifest }) => {
      const result = await readiness.wait({ serviceSchema, revision, manifest }, new AbortController().signal)
        .catch((error: unknown) => ({ ready: false as const, reason: formatError(error) }));
      return result.ready ? [] : [`${serviceSchema}: Temporal does not see revision ${revision}: ${result.reason}`];
    }));
    return answers.flat();
  } finally {
    await temporal.close();
  }
}
