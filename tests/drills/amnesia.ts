import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { ANY_PORTS, parseConfig } from "../../local/config.ts";
import { type Example, firstExample } from "../../local/examples.ts";
import { createProgress, untilToldToStop } from "../../local/progress.ts";
import { followExample, insertExample, isSuccess } from "../../local/run-example.ts";
import { type Stack, startStack } from "../../local/stack.ts";
import { removeState } from "../../local/stack-state.ts";
import { formatError } from "../../supabase/functions/_shared/problems.ts";
import { type Fleet, isRenewed, killAll, openFleet, stillRuns, until } from "./fleet.ts";

/** Nothing takes longer: the slowest part is a reconcile that has just been, and one worker after the other on one core. */
const PATIENCE_SECONDS = 240;

interface Figures {
  services: number;
  /** From the SIGKILL of all workers until each service has a worker again and has run its workflows. */
  killed_to_back_s: number;
  /** From the registry and the intents emptied until every service is deployed again and has run its workflows. */
  emptied_to_back_s: number;
  /** From the SIGKILL and the removal of all that the workers ran from, until the same. */
  erased_to_back_s: number;
}

/**
 * `npm run drill:amnesia`: a whole stack loses its workers, then its memory, then the workers with all that they run from, and
 * comes back each time from what is left. Exits with 0 only if it does, with one worker for each service, and without
 * touching a worker of another database or one that no row wants.
 */
async function main(services: number, isJson: boolean): Promise<number> {
  const told = untilToldToStop();
  // With --json stdout holds the document alone.
  const write = (line: string) => isJson ? console.error(line) : console.log(line);
  const directory = mkdtempSync(join(tmpdir(), "osp-drill-"));
  try {
    const config = parseConfig({ ...process.env, OSP_STATE_DIR: directory, ...ANY_PORTS });
    const stack = await startStack(config, process.env, createProgress(write));
    try {
      const fleet = await openFleet(directory, stack.addresses, process.env);
      try {
        const figures = await Promise.race([told, drill(services, stack, fleet, write)]);
        if (typeof figures === "string") return 130;
        if (isJson) console.log(JSON.stringify({ ok: true, ...figures }));
        return 0;
      } finally {
        await fleet.close();
      }
    } finally {
      await stack.stop();
    }
  } finally {
    removeState(directory);
  }
}

async function drill(count: number, stack: Stack, fleet: Fleet, write: (line: string) => void): Promise<Figures> {
  const examples = Array.from({ length: count }, (_, index) => exampleNamed(`drill_${index + 1}`));
  const names = examples.map(({ service }) => service.service_schema);
  const unwanted = exampleNamed("drill_unwanted");
  write(`Deploying ${count} services and one that nobody will want`);
  for (const example of [...examples, unwanted]) await insertExample(example, stack.addresses.DB_URL);
  await runAll([...examples, unwanted], stack);
  const foreign = await fleet.startForeign(names[0] ?? "");

  const timed = async (what: string, harm: () => Promise<void>, back: () => Promise<void>): Promise<number> => {
    const startedAt = performance.now();
    await harm();
    await back();
    const seconds = Math.round((performance.now() - startedAt) / 100) / 10;
    write(`  ✓ ${what}: all ${count} services are back after ${seconds} s`);
    if (!stillRuns(foreign)) throw new Error("The worker of another database was ended");
    return seconds;
  };
  /** Each has one new worker, which the registry knows and which does its work. */
  const areBack = async (before: ReturnType<Fleet["workers"]>) => {
    await until(
      "every service has one new worker",
      PATIENCE_SECONDS,
      () => Promise.resolve(isRenewed(names, before, fleet.workers())),
    );
    await runAll(examples, stack);
    await until("every service runs by its registry", PATIENCE_SECONDS, async () => {
      const running = await fleet.rows(
        `select from osp_metadata.worker_status where state = 'running' and wanted = 'run'`,
      );
      return running.length >= count && isRenewed(names, before, fleet.workers());
    });
  };

  let before = fleet.workers();
  write("Killing every worker");
  const killed = await timed("workers killed", async () => killAll(before), () => areBack(before));
  await until(
    "the service without a row yet has its worker",
    PATIENCE_SECONDS,
    () => Promise.resolve(isRenewed(["drill_unwanted"], before, fleet.workers())),
  );

  before = fleet.workers();
  write("Emptying the registry and the intents, and taking a row away that nobody deleted");
  const emptied = await timed("registry emptied", () => empty(fleet), () => areBack(before));
  await until(
    "what no row wants is reported",
    PATIENCE_SECONDS,
    async () =>
      (await fleet.rows(`select from osp_metadata.orphans where service_schema = 'drill_unwanted'`)).length === 1,
  );
  const left = fleet.workers().get("drill_unwanted") ?? [];
  if (left.join() !== before.get("drill_unwanted")?.join()) throw new Error("The worker that no row wants was touched");
  write("  ✓ the worker that no row wants runs on, and osp_metadata.orphans tells of it");

  before = fleet.workers();
  write("Killing every worker and removing what it runs from");
  const erased = await timed("workers erased", async () => {
    for (const name of names) fleet.erase(name);
    killAll(new Map(names.map((name) => [name, before.get(name) ?? []])));
  }, () => areBack(before));
  return { services: count, killed_to_back_s: killed, emptied_to_back_s: emptied, erased_to_back_s: erased };
}

/** As a restore of an older backup leaves it: without a word to anybody. */
async function empty(fleet: Fleet): Promise<void> {
  await fleet.rows(`begin;
    set local session_replication_role = replica;
    truncate osp_metadata.worker_registry, osp_metadata.deployment_attempts, osp_metadata.service_intents;
    delete from osp.services where service_schema = 'drill_unwanted';
    commit`);
}

function exampleNamed(name: string): Example {
  const { service, inputs } = firstExample();
  return { service: { ...service, service_schema: name, service_name: `Drill ${name}` }, inputs };
}

/** Waits for the deployment of each, and runs its workflows. @throws where one does not come to what it should */
async function runAll(examples: Example[], { addresses }: Stack): Promise<void> {
  const signal = AbortSignal.timeout(PATIENCE_SECONDS * 1000);
  const outcomes = await Promise.all(examples.map((example) => followExample(example, addresses, () => {}, signal)));
  const failed = outcomes.filter((outcome) => !isSuccess(outcome));
  if (failed.length > 0) throw new Error(`These did not come to what they should: ${JSON.stringify(failed)}`);
}

try {
  const options = { services: { type: "string", default: "6" }, json: { type: "boolean", default: false } } as const;
  const { values } = parseArgs({ args: process.argv.slice(2), options });
  const services = Number(values.services);
  if (!Number.isInteger(services) || services < 1 || services > 50) {
    throw new Error(`--services ${values.services} must be a whole number from 1 to 50`);
  }
  process.exitCode = await main(services, values.json);
} catch (error) {
  console.error(`The drill failed: ${formatError(error)}`);
  process.exitCode = 1;
}
