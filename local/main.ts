import { formatError } from "../supabase/functions/_shared/problems.ts";
import { join } from "node:path";
import { parseConfig, type StackConfig, StackError } from "./config.ts";
import { firstExample } from "./examples.ts";
import { createProgress, untilToldToStop } from "./progress.ts";
import { type ExampleOutcome, isSuccess, runExample } from "./run-example.ts";
import { type Hosts, type Stack, startStack } from "./stack.ts";
import { supabaseHosts } from "./supabase-hosts.ts";

/** `npm start`: the whole stack, one example through it, then it stays up. */
async function main(): Promise<number> {
  const told = untilToldToStop();
  const progress = createProgress((line) => console.log(line));
  let config: StackConfig;
  let stack: Stack;
  try {
    config = parseConfig(process.env);
    stack = await startStack(config, process.env, progress, ...hostsFrom(process.argv.slice(2)));
  } catch (error) {
    console.error(error instanceof StackError ? error.message : error);
    return 1;
  }
  try {
    const stopping = new AbortController();
    void told.then(() => stopping.abort());
    await show(stack, config.OSP_STATE_DIR, stopping.signal).catch((error: unknown) => {
      if (!stopping.signal.aborted) throw error;
    });
    await told;
    console.log("\nStopping");
    return 0;
  } catch (error) {
    console.error(`Cannot show the example: ${formatError(error)}`);
    return 1;
  } finally {
    await stack.stop();
  }
}

/** @throws {StackError} for an argument that there is not */
function hostsFrom(args: string[]): [] | [Hosts] {
  const unknown = args.find((argument) => argument !== "--supabase");
  if (unknown !== undefined) throw new StackError(`Cannot start: ${unknown} is unknown; there is --supabase`);
  return args.length === 0 ? [] : [supabaseHosts()];
}

async function show(stack: Stack, stateDirectory: string, signal: AbortSignal): Promise<void> {
  const example = firstExample();
  const { service_schema } = example.service;
  console.log(`\nInserting ${service_schema} into osp.services`);
  const startedAt = performance.now();
  const outcome = await runExample(example, stack.addresses, (status) => {
    console.log(`  ${((performance.now() - startedAt) / 1000).toFixed(2).padStart(6)} s  ${status}`);
  }, signal);
  tell(outcome);
  console.log(whereToLookNext(stack, stateDirectory, service_schema));
}

function tell(outcome: ExampleOutcome): void {
  if (outcome.error !== null) console.log(`  ${outcome.error}`);
  for (const { name, result } of outcome.workflows) console.log(`  ${name} returned ${JSON.stringify(result)}`);
  if (!isSuccess(outcome)) console.log("  That is not what it should have come to.");
}

function whereToLookNext({ addresses }: Stack, stateDirectory: string, serviceSchema: string): string {
  return `
Look at it in SQL      psql "${addresses.DB_URL}"
                         select service_schema, deployment_status, deployed_at, logs
                         from osp_metadata.worker_registry where service_schema = '${serviceSchema}';
                         select * from osp_metadata.worker_status;
Insert another           insert into osp.services (service_schema, service_name, workflows)
                         values ('my_service', 'My Service', '[{"name": "doIt", "activities": ["first", "second"]}]');
Temporal's web page    ${addresses.TEMPORAL_UI_URL}
Addresses and keys     ${join(stateDirectory, "stack.env")}
Logs                   ${stateDirectory}/*.log, of workers ${join(stateDirectory, "workers")}

Running. Stop it with Ctrl-C; its state stays for the next start.`;
}

process.exitCode = await main();
