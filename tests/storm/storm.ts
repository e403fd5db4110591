import { appendFileSync, copyFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { z } from "zod";
import { formatError } from "../../supabase/functions/_shared/problems.ts";
import { BrokenPromise } from "./broken-promise.ts";
import { type Action, commandsOf, isFault, type Kind } from "./commands.ts";
import { type Endpoint, startEndpoint } from "./endpoint.ts";
import { createFaults, type Faults } from "./faults.ts";
import { type Model, serviceOf } from "./model.ts";
import { findUnrest, findUnseen } from "./rest.ts";
import { inSession } from "./sessions.ts";
import { startStormStack, type StormStack } from "./stack.ts";
import { deadlocks, findProcesses, logProblems, storageProblems } from "./traces.ts";
import { startWatch, type Watch } from "./watch.ts";
import { createWorkflows, type Workflows } from "./workflows.ts";
import { write } from "./writing.ts";

export interface StormSettings {
  /** The same seed gives the same commands; how many of them are reached is the machine's. */
  seed: number;
  /** How long it rages, without the start of its stack and the rest after it. */
  seconds: number;
  /** Empty; everything that is left to look at is below it. */
  directory: string;
  environment: NodeJS.ProcessEnv;
  /** Aborted: end everything now. */
  signal: AbortSignal;
}

/** What a storm did. */
export interface StormReport {
  seed: number;
  /** How often each command was carried out. */
  commands: Partial<Record<Kind, number>>;
  /** Commands that met nothing which they could do anything to. */
  idle: number;
  /** From the last command until the fleet was at rest. */
  rest_s: number;
  /** Longest time for which two revisions of a service were both kept running. */
  longest_overlap_s: number;
  /** How often the tables and the workers were looked at while it went on. */
  looks: number;
  revisions: number;
  deployments: number;
  /** Deployments of several workers that came to serve. */
  replicated: number;
  failed: number;
  attempts: number;
  abandoned: number;
  workflows: number;
  activities: number;
}

/** A safety net: what is not at rest by then never will be. */
const REST_SECONDS = 240;
const LOOK_MS = 500;

/** Everything that a storm works with. */
interface Storm {
  stack: StormStack;
  faults: Faults;
  watch: Watch;
  workflows: Workflows;
  endpoint: Endpoint;
  /** Writes a line of the storm's own log. */
  note(line: string): void;
}

/**
 * A whole stack, commands against it, and a look at what became of it.
 *
 * @throws {BrokenPromise} with everything ended, and what there is to look at left in the directory
 */
export async function runStorm(settings: StormSettings): Promise<StormReport> {
  const { directory, environment, signal } = settings;
  const note = (line: string) => appendFileSync(join(directory, "storm.txt"), `${new Date().toISOString()} ${line}\n`);
  const stack = await startStormStack(directory, environment, note);
  const stops: (() => Promise<unknown>)[] = [() => stack.stop()];
  try {
    const endpoint = await startEndpoint(Number(new URL(stack.addresses.ACTIVITY_URL).port));
    stops.push(() => endpoint.close());
    const workflows = createWorkflows(stack.addresses.TEMPORAL_ADDRESS);
    stops.push(() => workflows.close());
    const watch = startWatch(stack);
    stops.push(() => watch.end());
    const faults = createFaults(stack, watch.forgetting);
    signal.throwIfAborted();
    return await weather({ stack, faults, watch, workflows, endpoint, note }, settings);
  } catch (error) {
    if (!signal.aborted) await keepEvidence(stack, error, note);
    throw error;
  } finally {
    for (const stop of stops.toReversed()) await stop();
    const left = findProcesses(directory);
    // eslint-disable-next-line no-unsafe-finally -- nothing is worse than what is left running
    if (left.length > 0) throw new BrokenPromise(["Still running after the end of everything:", ...left]);
  }
}

async function weather(storm: Storm, settings: StormSettings): Promise<StormReport> {
  const { commands, idle, model } = await rage(storm, settings);
  const endedAt = Date.now();
  await storm.faults.calm();
  storm.note("calm");
  await untilAtRest(storm, model, settings.signal);
  const restSeconds = Math.round((Date.now() - endedAt) / 100) / 10;
  storm.note(`at rest after ${restSeconds} s`);
  await judge(storm, model, settings.signal);
  return {
    seed: settings.seed,
    commands,
    idle,
    rest_s: restSeconds,
    longest_overlap_s: storm.watch.longestOverlapSeconds(),
    looks: storm.watch.looks(),
    ...await countTables(storm.stack),
    workflows: storm.workflows.started().length,
    activities: storm.endpoint.calls().length,
  };
}

/** One command after another, until the time is over. */
async function rage(storm: Storm, { seed, seconds, signal }: StormSettings) {
  const commands: StormReport["commands"] = {};
  const deadline = Date.now() + seconds * 1000;
  let model: Model = new Map();
  let idle = 0;
  let number = 0;
  for (const { afterMs, action } of commandsOf(seed)) {
    await pause(afterMs, undefined, { signal });
    if (Date.now() >= deadline) break;
    storm.note(`${++number} ${JSON.stringify(action)}`);
    const { isDone, after } = await carryOut(action, number, model, storm);
    model = after;
    if (isDone) commands[action.kind] = (commands[action.kind] ?? 0) + 1;
    else idle++;
    const seen = storm.watch.problems();
    if (seen.length > 0) throw new BrokenPromise(seen);
  }
  return { commands, idle, model };
}

async function carryOut(action: Action, number: number, model: Model, { stack, faults, workflows }: Storm) {
  if (action.kind === "start_workflow") {
    const service = serviceOf(action.service);
    // Nobody starts one of a service that there is not.
    return { isDone: model.has(service) && await workflows.start(service, number), after: model };
  }
  if (isFault(action)) return { isDone: await faults.strike(action), after: model };
  return { isDone: true, after: await write(action, number, model, stack.addresses.DB_URL) };
}

/** Twice in a row: what is at rest stays so. @throws {BrokenPromise} with what is still not as it should be */
async function untilAtRest({ stack, faults, note }: Storm, model: Model, signal: AbortSignal): Promise<void> {
  let restful = 0;
  for (const deadline = Date.now() + REST_SECONDS * 1000; restful < 2;) {
    if (faults.hasForgotten()) await removeOrphans(stack, note);
    const problems = await findUnrest(stack, model);
    restful = problems.length === 0 ? restful + 1 : 0;
    if (problems.length > 0 && Date.now() > deadline) {
      throw new BrokenPromise([`Not at rest ${REST_SECONDS} s after the storm:`, ...problems]);
    }
    await pause(LOOK_MS, undefined, { signal });
  }
}

/** Where the intents were forgotten a person decides what becomes of a worker that no row wants; here it goes. */
async function removeOrphans(stack: StormStack, note: (line: string) => void): Promise<void> {
  const { rows } = await inSession(stack.addresses.DB_URL, (client) =>
    client.query(
      `select o.service_schema, (osp.remove_orphan(o.service_schema)).revision
      from (select distinct service_schema from osp_metadata.orphans) as o
      where not exists (select from osp.services as s where s.service_schema = o.service_schema)
        and not exists (select from osp_metadata.service_intents as i where i.service_schema = o.service_schema)`,
    ));
  for (const row of rows) note(`removed the orphan ${JSON.stringify(row)}`);
}

/** What else must be true once the fleet is at rest. @throws {BrokenPromise} */
async function judge(storm: Storm, model: Model, signal: AbortSignal): Promise<void> {
  const { stack, faults, watch, workflows, endpoint } = storm;
  const { rows } = await inSession(
    stack.addresses.DB_URL,
    (client) =>
      client.query(`select service_schema from osp_metadata.worker_registry where deployment_status = 'deployed'`),
  );
  const running = z.array(z.object({ service_schema: z.string() })).parse(rows).map((row) => row.service_schema);
  const unseen = await findUnseen(stack);
  // Each worker does what it is there for.
  const isStarted = await Promise.all(running.map((service) => workflows.start(service, 0)));
  const problems = [
    ...unseen,
    ...running.filter((_, index) => !isStarted[index]).map((service) =>
      `${service}: Temporal does not take a workflow`
    ),
    ...await workflows.judge(new Set(running), faults.temporalLostAt(), endpoint.calls, signal),
    ...endpoint.problems(),
    ...await storageProblems(stack),
    ...await findUnrest(stack, model),
    ...watch.problems(),
    ...logProblems(stack),
    ...deadlocks(stack.postgres.logFile()),
  ];
  signal.throwIfAborted();
  if (problems.length > 0) throw new BrokenPromise(problems);
}

const countsSchema = z.object({
  revisions: z.int(),
  deployments: z.int(),
  replicated: z.int(),
  failed: z.int(),
  attempts: z.int(),
  abandoned: z.int(),
});

async function countTables({ addresses }: StormStack) {
  const { rows: [row] } = await inSession(addresses.DB_URL, (client) =>
    client.query(`select
      (select coalesce(sum(revision), 0)::integer from osp_metadata.service_intents) as revisions,
      (select count(*)::integer from osp_metadata.worker_registry) as deployments,
      (
        select count(*)::integer from osp_metadata.worker_registry
        where deployed_at is not null and (manifest #>> '{options,replicas}')::integer > 1
      ) as replicated,
      (select count(*)::integer from osp_metadata.worker_registry where deployment_status = 'failed') as failed,
      (select count(*)::integer from osp_metadata.deployment_attempts) as attempts,
      (select count(*)::integer from osp_metadata.deployment_attempts where outcome = 'abandoned') as abandoned`));
  return countsSchema.parse(row);
}

const EVIDENCE = [
  "osp.services",
  "osp_metadata.service_intents",
  "osp_metadata.worker_registry",
  "osp_metadata.deployment_attempts",
  "osp_metadata.platforms",
  "osp_metadata.orphans",
];

/** What would be gone with the stack. */
async function keepEvidence(stack: StormStack, error: unknown, note: (line: string) => void): Promise<void> {
  note(`failed: ${formatError(error)}`);
  try {
    for (const table of EVIDENCE) {
      const { rows } = await inSession(stack.addresses.DB_URL, (client) => client.query(`select * from ${table}`));
      writeFileSync(join(stack.directory, `${table}.json`), JSON.stringify(rows, null, 1));
    }
    copyFileSync(stack.postgres.logFile(), join(stack.directory, "postgres-server.txt"));
  } catch (failure) {
    note(`cannot keep the tables: ${formatError(failure)}`);
  }
}
