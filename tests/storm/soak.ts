// `npm run soak`: storms one after another, each on a stack of its own, until the time is over or a promise is broken.
import { randomInt } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { loadavg, tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { untilToldToStop } from "../../local/progress.ts";
import { formatError } from "../../supabase/functions/_shared/problems.ts";
import { BrokenPromise } from "./broken-promise.ts";
import { commandsOf } from "./commands.ts";
import { runStorm, type StormReport } from "./storm.ts";
import { summaryOf } from "./summary.ts";

/** How long one storm rages. The same for all, so that a seed comes about as far wherever it is run again. */
const STORM_SECONDS = 60;
const LARGEST_SEED = 2 ** 31 - 1;

interface SoakOptions {
  minutes: number;
  seed: number;
  isJson: boolean;
}

async function main({ minutes, seed, isJson }: SoakOptions): Promise<number> {
  const told = new AbortController();
  void untilToldToStop().then(() => told.abort());
  // With --json stdout holds the document alone.
  const write = (line: string) => isJson ? console.error(line) : console.log(line);
  const deadline = Date.now() + minutes * 60_000;
  const storms: StormReport[] = [];
  let next = seed;
  do {
    const report = await weatherOne(next, write, told.signal);
    if (report === undefined) return told.signal.aborted ? 130 : 1;
    storms.push(report);
    next = next === LARGEST_SEED ? 0 : next + 1;
  } while (Date.now() < deadline);
  write(`${storms.length} storms, nothing broken:`);
  for (const line of summaryOf(storms)) write(`  ${line}`);
  if (isJson) console.log(JSON.stringify({ ok: true, seed, storms }));
  return 0;
}

/** Undefined: it was interrupted, or a promise was broken. */
async function weatherOne(
  seed: number,
  write: (line: string) => void,
  signal: AbortSignal,
): Promise<StormReport | undefined> {
  const directory = mkdtempSync(join(tmpdir(), "osp-storm-"));
  write(`Storm of seed ${seed} (load ${loadavg()[0]?.toFixed(1)})`);
  let isToKeep = false;
  try {
    const report = await runStorm({ seed, seconds: STORM_SECONDS, directory, environment: process.env, signal });
    for (const line of summaryOf([report])) write(`  ${line}`);
    return report;
  } catch (error) {
    isToKeep = !signal.aborted || error instanceof BrokenPromise;
    if (isToKeep) tellOf(error, seed, directory);
    return undefined;
  } finally {
    if (!isToKeep) rmSync(directory, { recursive: true, force: true });
  }
}

function tellOf(error: unknown, seed: number, directory: string): void {
  const problems = error instanceof BrokenPromise ? error.problems : [Object(error).stack ?? formatError(error)];
  console.error(`A promise is broken in the storm of seed ${seed}:`);
  for (const problem of problems) console.error(`  ${problem}`);
  console.error(`Its commands, logs and tables: ${directory} (storm.txt tells it all in order)`);
  console.error(`The same commands again: npm run soak -- --minutes 0 --seed ${seed}`);
}

function readOptions(args: string[]): SoakOptions & { isList: boolean } {
  const { values } = parseArgs({
    args,
    options: {
      minutes: { type: "string", default: "30" },
      seed: { type: "string", default: String(randomInt(LARGEST_SEED)) },
      json: { type: "boolean", default: false },
      list: { type: "boolean", default: false },
    },
  });
  const [minutes, seed] = [Number(values.minutes), Number(values.seed)];
  if (!(minutes >= 0 && minutes <= 10_000)) {
    throw new Error(`--minutes ${values.minutes} must be a number from 0 to 10000`);
  }
  if (!Number.isInteger(seed) || seed < 0 || seed > LARGEST_SEED) {
    throw new Error(`--seed ${values.seed} must be a whole number from 0 to ${LARGEST_SEED}`);
  }
  return { minutes, seed, isJson: values.json, isList: values.list };
}

/** What a seed stands for, without a stack. */
function list(seed: number): number {
  let number = 0;
  for (const { afterMs, action } of commandsOf(seed)) {
    console.log(`${++number} after ${afterMs} ms ${JSON.stringify(action)}`);
    if (number === 200) break;
  }
  return 0;
}

try {
  const options = readOptions(process.argv.slice(2));
  process.exitCode = options.isList ? list(options.seed) : await main(options);
} catch (error) {
  console.error(`The soak failed: ${formatError(error)}`);
  process.exitCode = 1;
}
