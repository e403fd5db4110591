import { mkdtemp } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { formatError } from "../supabase/functions/_shared/problems.ts";
import { ANY_PORTS, parseConfig, StackError } from "./config.ts";
import { allExamples } from "./examples.ts";
import { createProgress, untilToldToStop } from "./progress.ts";
import { type ExampleOutcome, followExample, insertExample, isSuccess } from "./run-example.ts";
import { startStack } from "./stack.ts";
import { readSummary } from "./railway/state-files.ts";
import { STACK_PLATFORMS, type StackPlatform } from "./stack-platform.ts";
import { removeState } from "./stack-state.ts";

/** `npm run demo`: every example through a stack of its own, in a scratch directory on free ports. */
async function main(platform: StackPlatform, isJson: boolean): Promise<number> {
  const told = untilToldToStop();
  const stopping = new AbortController();
  void told.then(() => stopping.abort());
  // With --json stdout holds the document alone.
  const write = (line: string) => isJson ? console.error(line) : console.log(line);
  const directory = await mkdtemp(join(tmpdir(), "osp-demo-"));
  const config = parseConfig({ ...process.env, OSP_STATE_DIR: directory, ...ANY_PORTS });
  try {
    const stack = await startStack(config, process.env, createProgress(write), { platform });
    let outcomes: ExampleOutcome[] | string;
    try {
      outcomes = await Promise.race([
        told,
        Promise.all(
          allExamples().map((example) => {
            const { service_schema } = example.service;
            return run(example, stack.addresses, (status) => write(`  ${service_schema}: ${status}`), stopping.signal);
          }),
        ),
      ]);
    } finally {
      await stack.stop();
    }
    if (typeof outcomes === "string") return 130;
    const isClean = platform === "local" || isCleanOnRailway(join(directory, "railway"), write);
    report(outcomes, isJson, write);
    return isClean && outcomes.every(isSuccess) ? 0 : 1;
  } finally {
    removeState(directory);
  }
}

async function run(...[example, addresses, onStatus, signal]: Parameters<typeof followExample>) {
  await insertExample(example, addresses.DB_URL);
  return await followExample(example, addresses, onStatus, signal);
}

/** What was asked of the stand-in, and whether Railway itself would have taken it. */
function isCleanOnRailway(directory: string, write: (line: string) => void): boolean {
  const { requests, violations } = readSummary(directory);
  const counts = Object.entries(requests).map(([operation, count]) => `${operation} ${count}`).join(", ");
  const all = Object.values(requests).reduce((sum, count) => sum + count, 0);
  write(`  Railway was asked ${all} times: ${counts}`);
  for (const violation of violations) write(`  Railway would not have been asked so: ${violation}`);
  return violations.length === 0;
}

function report(outcomes: ExampleOutcome[], isJson: boolean, write: (line: string) => void): void {
  for (const outcome of outcomes) {
    if (outcome.error !== null) write(`${outcome.service_schema}: ${outcome.error}`);
    for (const { name, result, error } of outcome.workflows) {
      write(`  ${outcome.service_schema} ${name} → ${error ?? JSON.stringify(result)}`);
    }
  }
  if (!isJson) return;
  const services = outcomes.map(({ service_schema, deployment_status, insert_to_polling_ms, workflows }) => ({
    service_schema,
    deployment_status,
    insert_to_polling_ms,
    workflows: workflows.map(({ name, result }) => ({ name, result })),
  }));
  console.log(JSON.stringify({ ok: outcomes.every(isSuccess), services }));
}

/** @throws {StackError} naming what is not understood */
function readArguments(args: string[]): { platform: StackPlatform; isJson: boolean } {
  const options = { json: { type: "boolean" }, platform: { type: "string", default: "local" } } as const;
  const { values } = orStackError(() => parseArgs({ args, options }));
  const platform = STACK_PLATFORMS.find((name) => name === values.platform);
  if (platform !== undefined) return { platform, isJson: values.json ?? false };
  throw new StackError(`Cannot run the demo: --platform is ${values.platform}; it is ${STACK_PLATFORMS.join(" or ")}`);
}

function orStackError<Result>(read: () => Result): Result {
  try {
    return read();
  } catch (error) {
    throw new StackError(`Cannot run the demo: ${formatError(error)}`, { cause: error });
  }
}

try {
  const { platform, isJson } = readArguments(process.argv.slice(2));
  process.exitCode = await main(platform, isJson);
} catch (error) {
  console.error(error instanceof StackError ? error.message : error);
  process.exitCode = 1;
}
