import { mkdtemp } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ANY_PORTS, parseConfig } from "./config.ts";
import { allExamples } from "./examples.ts";
import { createProgress, untilToldToStop } from "./progress.ts";
import { type ExampleOutcome, followExample, insertExample, isSuccess } from "./run-example.ts";
import { startStack } from "./stack.ts";
import { removeState } from "./stack-state.ts";

/** `npm run demo`: every example through a stack of its own, in a scratch directory on free ports. */
async function main(isJson: boolean): Promise<number> {
  const told = untilToldToStop();
  const stopping = new AbortController();
  void told.then(() => stopping.abort());
  // With --json stdout holds the document alone.
  const write = (line: string) => isJson ? console.error(line) : console.log(line);
  const directory = await mkdtemp(join(tmpdir(), "osp-demo-"));
  const config = parseConfig({ ...process.env, OSP_STATE_DIR: directory, ...ANY_PORTS });
  try {
    const stack = await startStack(config, process.env, createProgress(write));
    try {
      const outcomes = await Promise.race([
        told,
        Promise.all(
          allExamples().map((example) => {
            const { service_schema } = example.service;
            return run(example, stack.addresses, (status) => write(`  ${service_schema}: ${status}`), stopping.signal);
          }),
        ),
      ]);
      if (typeof outcomes === "string") return 130;
      report(outcomes, isJson, write);
      return outcomes.every(isSuccess) ? 0 : 1;
    } finally {
      await stack.stop();
    }
  } finally {
    removeState(directory);
  }
}

async function run(...[example, addresses, onStatus, signal]: Parameters<typeof followExample>) {
  await insertExample(example, addresses.DB_URL);
  return await followExample(example, addresses, onStatus, signal);
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

const unknown = process.argv.slice(2).find((argument) => argument !== "--json");
if (unknown === undefined) process.exitCode = await main(process.argv.includes("--json"));
else {
  console.error(`Cannot run the demo: ${unknown} is unknown; there is --json`);
  process.exitCode = 1;
}
