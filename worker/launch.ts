import { createRequire } from "node:module";
import { parseArguments } from "./arguments.ts";
import { describeError, EXIT_CODES, WorkerExitError } from "./exit.ts";
import { startHealthServer } from "./health-server.ts";
import { createLog, type Log } from "./log.ts";
import { loadService, type ServiceQueue } from "./load-service.ts";
import { workerProgram } from "./program.ts";
import { readSettings } from "./read-settings.ts";
import { createCaller } from "./service/caller.ts";
import { endpointProblems } from "./service/check-endpoints.ts";
import { HURRIED_DRAIN_SECONDS, stopSignal } from "./stop-signal.ts";

export interface Launch {
  environment: NodeJS.ProcessEnv;
  codeRoot: string;
  args: readonly string[];
}

/** What the last line needs, whenever it comes. */
interface Ending {
  log: Log;
  flush(): void;
}

/** Runs a worker to its end and ends the process; its last line says how: `worker.exit {code, problems}`. */
export async function launchWorker(launch: Launch): Promise<never> {
  const ending: Ending = { log: createLog(), flush: () => {} };
  for (const event of ["uncaughtException", "unhandledRejection"] as const) {
    process.on(event, (error: unknown) => end(ending, new WorkerExitError(EXIT_CODES.fatal, [stackOf(error)])));
  }
  try {
    await run(launch, ending);
    return end(ending);
  } catch (error) {
    return end(ending, error);
  }
}

async function run({ environment, codeRoot, args }: Launch, ending: Ending): Promise<void> {
  const { isCheck, manifestPath } = parseArguments(args);
  const endNow = (name: NodeJS.Signals) => end(ending, isCheck ? uncheckedBy(name) : undefined);
  const stop = stopSignal(endNow, (name) => end(ending, secondSignal(name)));
  const named = manifestPath === undefined ? environment : { ...environment, MANIFEST_PATH: manifestPath };
  const { config, manifest } = await readSettings(named, codeRoot);
  const { service_schema, revision } = manifest;
  const log = ending.log = ending.log.child({ service_schema, revision });
  log.info({
    event: "worker.starting",
    manifest_path: config.manifestPath,
    code_root: codeRoot,
    node: process.version,
  });

  // Only where it runs: an image is built where neither its settings nor its network are. Names are looked up meanwhile.
  const refusals = isCheck ? Promise.resolve([]) : endpointProblems(manifest, config.endpoints);
  const caller = createCaller(config.endpoints);
  const queues = await loadService({ ...config, manifest, codeRoot, log, isCheck, caller });
  if (isCheck) return await tellOfChecked(queues, log);
  const problems = queues.some(({ isPosted }) => isPosted) ? await refusals : [];
  if (problems.length > 0) throw new WorkerExitError(EXIT_CODES.unusable, problems);
  const health = config.port === undefined ? undefined : await startHealthServer(config.port);
  const { serve } = await import("./serve.ts");
  const onFlush = (flush: () => void) => void (ending.flush = flush);
  await serve({ config, manifest, queues, health, stop, log, onFlush });
}

/**
 * Where the bundles lie: what comes after the check, such as a replay, need not make them again. The SDK is loaded, so that an
 * image without its native module fails in the build, and Node has all that a start needs in its compile cache.
 */
async function tellOfChecked(queues: ServiceQueue[], log: Log): Promise<void> {
  await import("./serve.ts");
  compileThread();
  const bundles = Object.fromEntries(queues.map(({ taskQueue, bundlePath }) => [taskQueue, bundlePath]));
  log.info({ event: "worker.checked", bundles });
}

/** Threads of workflows start from a file of their own, which nothing else loads. */
function compileThread(): void {
  const program = workerProgram();
  if (program === undefined) return; // its files are those of the SDK, loaded by now
  try {
    createRequire(program.thread)(program.thread);
  } catch (error) {
    // Once all that it needs is loaded it refuses to run: this is no thread.
    if (!(error instanceof Error && error.message.endsWith("from main thread"))) throw error;
  }
}

function end({ log, flush }: Ending, error?: unknown): never {
  flush();
  const code = error === undefined
    ? EXIT_CODES.clean
    : error instanceof WorkerExitError
    ? error.code
    : EXIT_CODES.fatal;
  const problems = error === undefined ? [] : error instanceof WorkerExitError ? error.problems : [stackOf(error)];
  log[code === EXIT_CODES.clean ? "info" : "error"]({ event: "worker.exit", code, problems });
  process.exit(code);
}

/** Whoever asked takes 0 for "all of it is right". */
function uncheckedBy(name: NodeJS.Signals): WorkerExitError {
  return new WorkerExitError(EXIT_CODES.fatal, [`${name} came: stopped before it was checked`]);
}

function secondSignal(name: NodeJS.Signals): WorkerExitError {
  const grace = name === "SIGTERM" ? ` and what was in flight did not end within ${HURRIED_DRAIN_SECONDS} s` : "";
  return new WorkerExitError(EXIT_CODES.fatal, [
    `a second ${name} came while draining${grace}: what is in flight is left to Temporal's retries`,
  ]);
}

/** For what nobody expected: where it happened helps more than a tidy line. */
function stackOf(error: unknown): string {
  return error instanceof Error && error.stack !== undefined ? error.stack : describeError(error);
}
