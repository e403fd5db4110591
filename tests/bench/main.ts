import { availableParallelism, loadavg } from "node:os";
import type { Progress } from "../../local/building.ts";
import { createProgress, untilToldToStop } from "../../local/progress.ts";
import { measureClaimLatency } from "./claim-latency.ts";
import { measureClaimRate } from "./claim-rate.ts";
import { measureCrash } from "./crash.ts";
import { measureDrain } from "./drain.ts";
import { measureInsertToPolling } from "./insert-to-polling.ts";
import { withLoadStack } from "./load-stack.ts";
import { measureRecipes, SERVER_SETTINGS } from "./recipes.ts";
import type { BenchResult } from "./result.ts";
import { withDatabase, withServer, withStack } from "./scratch.ts";
import { measureTriggerCost } from "./trigger-cost.ts";
import { measureDrains } from "./worker/drains.ts";
import { measureWorkflowRate } from "./worker/rate.ts";
import { withWorkerStand } from "./worker/stand.ts";
import { measureWorkerStart } from "./worker/start.ts";

interface Tools {
  write: (line: string) => void;
  progress: Progress;
  /** Ends a measurement when we are told to stop; what it runs on is then taken down. */
  untilTold<Result>(work: Promise<Result>): Promise<Result>;
}

interface Part {
  name: string;
  title: string;
  measure(tools: Tools): Promise<BenchResult[]>;
}

/** First the one that takes a quiet disk, then those that take a quiet processor. */
const parts: Part[] = [
  {
    name: "triggers",
    title: "Cost of the triggers",
    measure: ({ write, progress, untilTold }) =>
      withDatabase(progress, (client) => untilTold(measureTriggerCost(client, write))),
  },
  {
    name: "polling",
    title: "From an insert to a polling worker",
    measure: ({ write, progress, untilTold }) =>
      withStack(process.env, progress, (stack) => untilTold(measureInsertToPolling(stack, write))),
  },
  {
    name: "worker",
    title: "The worker beside a hand-written one, and its drains",
    measure: ({ write, untilTold }) =>
      withWorkerStand((stand) =>
        untilTold((async () => [
          ...await measureWorkerStart(stand, write),
          await measureWorkflowRate(stand, write),
          await measureDrains(stand, write),
        ])())
      ),
  },
  {
    name: "claims",
    title: "Claims beside a queue's jobs",
    measure: ({ write, progress, untilTold }) =>
      withLoadStack(process.env, progress, (stack) =>
        untilTold((async () => [
          ...await measureClaimLatency(stack, write),
          ...await measureClaimRate(stack, write),
        ])())),
  },
  {
    name: "drain",
    title: "Ten thousand services on a platform that does nothing",
    measure: ({ write, progress, untilTold }) =>
      withLoadStack(process.env, progress, (stack) => untilTold(measureDrain(stack, write))),
  },
  {
    name: "crash",
    title: "From the SIGKILL of a deployer to its row running again",
    measure: ({ write, progress, untilTold }) =>
      withStack(process.env, progress, (stack) => untilTold(measureCrash(stack, write))),
  },
  {
    name: "recipes",
    title: "Recipes at a million rows",
    measure: ({ write, progress, untilTold }) =>
      withServer(progress, SERVER_SETTINGS, (url) => untilTold(measureRecipes(url, progress, write))),
  },
];

class ToldToStopError extends Error {}

/**
 * `npm run bench`: the promises that are figures, measured on the real programs; with --json one array on stdout, with
 * `--only claims,drain` some parts of it. Exits with 0 when everything could be measured, whether or not a goal is met: a busy
 * machine is no defect.
 */
async function main(isJson: boolean, wanted: Part[]): Promise<number> {
  // With --json stdout holds the document alone.
  const write = (line: string) => isJson ? console.error(line) : console.log(line);
  const told = untilToldToStop().then((signal) => Promise.reject(new ToldToStopError(signal)));
  told.catch(() => {}); // told to whoever waits for a measurement
  const tools: Tools = {
    write,
    progress: createProgress(write),
    untilTold: (work) => Promise.race([told, work]),
  };
  const results: BenchResult[] = [];
  for (const part of wanted) {
    write(`${part.title} (${machine()})`);
    results.push(...await part.measure(tools));
  }
  write(`Results (${machine()})`);
  for (const result of results) write(`  ${describe(result)}`);
  const missed = results.filter(({ met }) => met === false).map(({ name }) => name);
  write(missed.length === 0 ? "Every goal is met." : `Missed: ${missed.join(", ")}`);
  if (isJson) console.log(JSON.stringify(results));
  return 0;
}

/** @throws {Error} naming a part that there is not */
function partsOf(only: string | undefined): Part[] {
  if (only === undefined) return parts;
  const names = only.split(",");
  const unknown = names.filter((name) => !parts.some((part) => part.name === name));
  if (unknown.length > 0) {
    throw new Error(`there is no ${unknown.join(", ")}: the parts are ${parts.map(({ name }) => name).join(", ")}`);
  }
  return parts.filter(({ name }) => names.includes(name));
}

function machine(): string {
  return `${availableParallelism()} processors, load ${loadavg().map((load) => load.toFixed(2)).join(" ")}`;
}

function describe({ name, value, unit, goal, bound, met, raw }: BenchResult): string {
  const facts = Object.entries(raw).flatMap(([key, fact]) => Array.isArray(fact) ? [] : [`${key} ${fact}`]);
  const verdict = goal === null ? "" : `, goal ${bound} ${goal}: ${met ? "met" : "missed"}`;
  return `${name}: ${value} ${unit}${verdict} (${facts.join(", ")})`;
}

try {
  const only = process.argv.includes("--only") ? process.argv[process.argv.indexOf("--only") + 1] ?? "" : undefined;
  process.exitCode = await main(process.argv.includes("--json"), partsOf(only));
} catch (error) {
  const isTold = error instanceof ToldToStopError;
  if (!isTold) console.error(`Cannot run the benchmark: ${error instanceof Error ? error.message : String(error)}`);
  process.exitCode = isTold ? 130 : 1;
}
