import { formatError } from "../supabase/functions/_shared/problems.ts";
import { join } from "node:path";
import { parseConfig, type StackConfig, StackError } from "./config.ts";
import { firstExample } from "./examples.ts";
import { createProgress, untilToldToStop } from "./progress.ts";
import { type ExampleOutcome, followExample, insertExample, isSuccess } from "./run-example.ts";
import { type Stack, type StackParts, startStack } from "./stack.ts";
import { supabaseHosts } from "./supabase-hosts.ts";

/** `npm start`: the whole stack, one example through it, then it stays up. */
async function main(): Promise<number> {
  const stopping = new AbortController();
  const told = untilToldToStop().then(() => {
    stopping.abort();
    console.log("\nStopping; workers have 5 s for what they have begun");
  });
  const progress = createProgress((line) => console.log(line));
  let config: StackConfig;
  let stack: Stack;
  try {
    config = parseConfig(process.env);
    stack = await startStack(config, process.env, progress, partsFrom(process.argv.slice(2)));
  } catch (error) {
    // A Ctrl-C reaches the programs that the start runs as well.
    if (stopping.signal.aborted) return 0;
    console.error(error instanceof StackError ? error.message : error);
    return 1;
  }
  try {
    await show(stack, config.OSP_STATE_DIR, stopping.signal);
    await told;
    return 0;
  } finally {
    await stack.stop();
  }
}

/** @throws {StackError} for an argument that there is not */
function partsFrom(args: string[]): StackParts {
  const unknown = args.find((argument) => argument !== "--supabase");
  if (unknown !== undefined) throw new StackError(`Cannot start: ${unknown} is unknown; there is --supabase`);
  return args.length === 0 ? {} : { hosts: supabaseHosts() };
}

/** Whatever becomes of the example: the stack stays up, with the services of whoever runs it. */
async function show(stack: Stack, stateDirectory: string, signal: AbortSignal): Promise<void> {
  const example = firstExample();
  const { service_schema } = example.service;
  const startedAt = performance.now();
  try {
    const isNew = await insertExample(example, stack.addresses.DB_URL);
    console.log(`\n${isNew ? `Inserted ${service_schema} into` : `${service_schema} is already in`} osp.services`);
    const outcome = await followExample(example, stack.addresses, (status) => {
      console.log(`  ${((performance.now() - startedAt) / 1000).toFixed(2).padStart(6)} s  ${status}`);
    }, signal);
    tell(outcome);
  } catch (error) {
    if (signal.aborted) return;
    console.error(`Cannot show the example: ${formatError(error)}`);
  }
  console.log(whereToLookNext(stack, stateDirectory, service_schema));
}

function tell(outcome: ExampleOutcome): void {
  if (outcome.error !== null) console.log(`  ${outcome.error}`);
  for (const { name, result, error } of outcome.workflows) {
    console.log(error === null ? `  ${name} returned ${JSON.stringify(result)}` : `  ${name} failed: ${error}`);
  }
  if (outcome.deployment_status === "stopped") console.log("  It is disabled: there is nothing to run.");
  else if (!isSuccess(outcome)) console.log("  That is not what it should have come to.");
}

function whereToLookNext({ addresses }: Stack, stateDirectory: string, serviceSchema: string): string {
  return `
Look at it in SQL      psql "${addresses.DB_URL}"
                         select service_schema, deployment_status, deployed_at, logs
                         from osp_metadata.worker_registry where service_schema = '${serviceSchema}';
                         select * from osp_metadata.worker_status;
Insert another           insert into osp.services (service_schema, service_name, workflows)
                         values ('my_service', 'My Service', '[{"name": "doIt", "activities": ["first", "second"]}]');
Run its workflow         ${temporalCli(addresses)} workflow execute --address ${addresses.TEMPORAL_ADDRESS} \\
                           --task-queue my_service-tasks --type doIt --workflow-id my-1 --input '{"hello": "world"}'
Temporal's web page    ${addresses.TEMPORAL_UI_URL}
Addresses and keys     ${join(stateDirectory, "stack.env")}
Logs                   ${stateDirectory}/*.log, of workers ${join(stateDirectory, "workers")}

Running. Stop it with Ctrl-C; its state stays for the next start.`;
}

function temporalCli({ TEMPORAL_CLI_PATH = "temporal" }: Stack["addresses"]): string {
  return TEMPORAL_CLI_PATH;
}

process.exitCode = await main();
