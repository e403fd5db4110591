import { Client as TemporalClient, Connection, type WorkflowHandle } from "@temporalio/client";
import { execa } from "execa";
import { cp, readFile, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { taskQueueOf } from "../supabase/functions/_shared/manifest.ts";
import { formatError } from "../supabase/functions/_shared/problems.ts";
import { inheritedFrom } from "./building.ts";
import { REPOSITORY } from "./config.ts";
import { type ExampleOutcome, untilDeployed, withClient, type WorkflowOutcome } from "./run-example.ts";
import type { StackAddresses } from "./stack-programs.ts";

/** The example with code of its own: examples/claims. */
export const OWN_CODE_SERVICE = "claims";
const WORKFLOW = "processClaim";
/** What the second push changes; the workflow that runs then ends with it. */
const CHANGE = { file: "activities.ts", from: "paid: ", to: "was paid " };
export const OWN_CODE_RESULT = "claim-1 was paid 12.50";
const WORKFLOW_TIMEOUT_MS = 600_000;
const STATUS_MS = 100;

export interface OwnCodeRun {
  /** Where its sources may be copied to, and changed. */
  directory: string;
  addresses: StackAddresses;
  /** Whose PATH and HOME are used. */
  environment: NodeJS.ProcessEnv;
  onStatus: (status: string) => void;
  signal: AbortSignal;
}

/**
 * Does what a person does with a service of its own code: pushes it, runs the SQL that this prints, starts a workflow, pushes a
 * change of the code while that waits, and lets it go on under the new revision.
 */
export async function runOwnCode(run: OwnCodeRun): Promise<ExampleOutcome> {
  const { directory, addresses, onStatus, signal } = run;
  const sources = join(directory, OWN_CODE_SERVICE);
  const example = join(REPOSITORY, "examples", OWN_CODE_SERVICE);
  // Whoever tried the example has installed its packages there.
  await cp(example, sources, { recursive: true, filter: (path) => !path.includes(join(example, "node_modules")) });
  await symlink(join(REPOSITORY, "node_modules"), join(sources, "node_modules"));
  onStatus("pushing its code");
  const pushed = await osp(["code", "push", OWN_CODE_SERVICE, sources], run);
  return await withClient(addresses.DB_URL, async (client) => {
    await client.query(insertIn(pushed));
    const deployment = await untilDeployed(OWN_CODE_SERVICE, client, onStatus, signal);
    const workflows = deployment.deployment_status === "deployed" ? [await runThroughChange(sources, run)] : [];
    return { service_schema: OWN_CODE_SERVICE, ...deployment, workflows };
  });
}

/** The SQL that a push prints for a service without a row. */
function insertIn(printed: string): string {
  const begin = printed.indexOf("insert into osp.services");
  if (begin < 0) throw new Error(`osp code push printed no insert: ${printed}`);
  return printed.slice(begin);
}

async function runThroughChange(sources: string, run: OwnCodeRun): Promise<WorkflowOutcome> {
  const { addresses, onStatus, signal } = run;
  const connection = await Connection.connect({ address: addresses.TEMPORAL_ADDRESS });
  try {
    const result = await connection.withAbortSignal(signal, async () => {
      const running = await start(new TemporalClient({ connection }));
      await untilWaiting(running, signal);
      onStatus("pushing a change of its code while a workflow waits");
      await change(sources);
      await osp(["code", "push", OWN_CODE_SERVICE, sources, "--wait"], run);
      await running.signal("decide", "approved");
      return await running.result();
    });
    const isAsExpected = result === OWN_CODE_RESULT;
    const error = isAsExpected ? null : `expected ${OWN_CODE_RESULT}: is examples/${OWN_CODE_SERVICE} as it came?`;
    return { name: WORKFLOW, result, error, isAsExpected };
  } catch (error) {
    if (signal.aborted) throw error;
    return { name: WORKFLOW, result: null, error: formatError(error), isAsExpected: false };
  } finally {
    await connection.close();
  }
}

async function start(temporal: TemporalClient): Promise<WorkflowHandle> {
  return await temporal.workflow.start(WORKFLOW, {
    taskQueue: taskQueueOf(OWN_CODE_SERVICE),
    workflowId: `${OWN_CODE_SERVICE}-${WORKFLOW}-${crypto.randomUUID()}`,
    args: [{ claim_id: "claim-1", amount: 1250 }],
    workflowExecutionTimeout: WORKFLOW_TIMEOUT_MS,
  });
}

/** Its first activity is done, and nobody has decided yet. */
async function untilWaiting(running: WorkflowHandle, signal: AbortSignal): Promise<void> {
  while (!(await running.query<string>("status")).startsWith("waiting")) {
    await pause(STATUS_MS, undefined, { signal });
  }
}

async function change(sources: string): Promise<void> {
  const file = join(sources, CHANGE.file);
  const text = await readFile(file, "utf8");
  if (!text.includes(CHANGE.from)) throw new Error(`${file} holds no "${CHANGE.from}" to change`);
  await writeFile(file, text.replace(CHANGE.from, CHANGE.to));
}

/** @returns what it prints  @throws {Error} with that, where it fails */
async function osp(args: string[], { addresses, environment, signal }: OwnCodeRun): Promise<string> {
  const { API_URL, SECRET_KEY } = addresses;
  const { stdout, stderr, failed } = await execa(process.execPath, ["client/osp.ts", ...args], {
    cwd: REPOSITORY,
    env: { ...inheritedFrom(environment), API_URL, SECRET_KEY },
    extendEnv: false,
    stdin: "ignore",
    reject: false,
    cancelSignal: signal,
  });
  if (failed) throw new Error(`osp ${args.join(" ")} fails: ${stderr}${stdout}`);
  return stdout;
}
