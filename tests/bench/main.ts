import { availableParallelism, loadavg } from "node:os";
import { createProgress, untilToldToStop } from "../../local/progress.ts";
import { measureInsertToPolling } from "./insert-to-polling.ts";
import type { BenchResult } from "./result.ts";
import { withDatabase, withStack } from "./scratch.ts";
import { measureTriggerCost } from "./trigger-cost.ts";

/**
 * `npm run bench`: the promises that are figures, measured on the real programs; with --json one array on stdout.
 * Exits with 0 when everything could be measured, whether or not a goal is met: a busy machine is no defect.
 */
async function main(isJson: boolean): Promise<number> {
  const told = untilToldToStop();
  // With --json stdout holds the document alone.
  const write = (line: string) => isJson ? console.error(line) : console.log(line);
  const progress = createProgress(write);
  const untilTold = <Result>(work: Promise<Result>) => Promise.race([told, work]);

  // First the one that takes a quiet disk, then the one that takes a quiet processor.
  write(`Cost of the triggers (${machine()})`);
  const cost = await withDatabase(progress, (client) => untilTold(measureTriggerCost(client, write)));
  if (typeof cost === "string") return 130;
  write(`From an insert to a polling worker (${machine()})`);
  const polling = await withStack(process.env, progress, (stack) => untilTold(measureInsertToPolling(stack, write)));
  if (typeof polling === "string") return 130;

  const results = [...polling, ...cost];
  write(`Results (${machine()})`);
  for (const result of results) write(`  ${describe(result)}`);
  const missed = results.filter(({ met }) => met === false).map(({ name }) => name);
  write(missed.length === 0 ? "Every goal is met." : `Missed: ${missed.join(", ")}`);
  if (isJson) console.log(JSON.stringify(results));
  return 0;
}

function machine(): string {
  return `${availableParallelism()} processors, load ${loadavg().map((load) => load.toFixed(2)).join(" ")}`;
}

function describe({ name, value, unit, goal, met, raw }: BenchResult): string {
  const parts = Object.entries(raw).flatMap(([key, part]) => Array.isArray(part) ? [] : [`${key} ${part}`]);
  const verdict = goal === null ? "" : `, goal at most ${goal}: ${met ? "met" : "missed"}`;
  return `${name}: ${value} ${unit}${verdict} (${parts.join(", ")})`;
}

try {
  process.exitCode = await main(process.argv.includes("--json"));
} catch (error) {
  console.error(`Cannot run the benchmark: ${error instanceof Error ? error.message : String(error)}`);
  process.exitCode = 1;
}
