import { setTimeout as pause } from "node:timers/promises";
import type { Manifest } from "../supabase/functions/_shared/manifest.ts";
import { parseArguments } from "./arguments.ts";
import { capacityOf } from "./capacity.ts";
import type { WorkerConfig } from "./config.ts";
import { describeError, EXIT_CODES, WorkerExitError } from "./exit.ts";
import { type HealthServer, startHealthServer } from "./health-server.ts";
import { createLog, type Log } from "./log.ts";
import type { ServiceQueue } from "./load-service.ts";
import { readSettings } from "./read-settings.ts";
import type { ReadinessDeps } from "./readiness.ts";
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
  const stop = stopSignal(() => end(ending), (name) => end(ending, secondSignal(name)));
  const { isCheck, manifestPath } = parseArguments(args);
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

  const { endpointProblems } = await import("./service/check-endpoints.ts");
  // Only where it runs: an image is built where neither its settings nor its network are. Names are looked up meanwhile.
  const refusals = isCheck ? Promise.resolve([]) : endpointProblems(manifest, config.endpoints);
  const { loadService } = await import("./load-service.ts");
  const { createCaller } = await import("./service/caller.ts");
  const caller = createCaller(config.endpoints);
  const queues = await loadService({ manifest, codeRoot, cacheDirectory: config.cacheDirectory, log, isCheck, caller });
  if (isCheck) return tellOfChecked(queues, log);
  const problems = queues.some(({ isPosted }) => isPosted) ? await refusals : [];
  if (problems.length > 0) throw new WorkerExitError(EXIT_CODES.unusable, problems);
  const health = config.port === undefined ? undefined : await startHealthServer(config.port);
  await serve({ config, manifest, queues, health, stop, ending });
}

/** Where the bundles lie: what comes after the check, such as a replay, need not make them again. */
function tellOfChecked(queues: ServiceQueue[], log: Log): void {
  const bundles = Object.fromEntries(queues.map(({ taskQueue, bundlePath }) => [taskQueue, bundlePath]));
  log.info({ event: "worker.checked", bundles });
}

interface Serving {
  config: WorkerConfig;
  manifest: Manifest;
  queues: ServiceQueue[];
  health: HealthServer | undefined;
  stop: ReturnType<typeof stopSignal>;
  ending: Ending;
}

/** Polls until the process is told to stop. The SDK is loaded only here: a bad manifest is told at once. */
async function serve({ config, manifest, queues, health, stop, ending }: Serving): Promise<void> {
  const { log } = ending;
  const { drainSeconds, connectDeadlineSeconds, temporal, memoryMb } = config;
  const { namespace } = temporal;
  const { installRuntime } = await import("./sdk-log.ts");
  const sdk = installRuntime(log);
  ending.flush = sdk.flush;
  const { connect } = await import("./connect.ts");
  const connection = await connect(temporal, connectDeadlineSeconds, log);
  const { createWorkersFromManifest, workerIdentity } = await import("./create-worker-from-manifest.ts");
  const capacity = capacityOf(memoryMb, queues.length);
  log.info({
    event: "worker.capacity",
    memory_mb: memoryMb,
    cached_workflows: capacity.cachedWorkflows,
    workflow_tasks: capacity.workflowTasks,
    activities: manifest.options.max_concurrent_activities ?? capacity.activities,
  });
  const workers = await createWorkersFromManifest({
    manifest,
    queues,
    connection,
    namespace,
    drainSeconds,
    capacity,
  });

  const { runWorkers } = await import("./run-workers.ts");
  const signal = stop.beginDraining((name) =>
    log.info({ event: "worker.draining", signal: name, drain_seconds: drainSeconds })
  );
  const identity = workerIdentity(manifest);
  void announceReadiness({ connection, namespace, identity, workers }, health, signal, log);
  const { watchAccess } = await import("./watch-access.ts");
  const accessLost = watchAccess(connection, namespace);
  await runWorkers({ workers, drainSeconds, stop: signal, accessLost, lastError: sdk.lastError });
}

/** Logs `worker.ready` once Temporal has seen every queue polled. */
async function announceReadiness(
  deps: ReadinessDeps,
  health: HealthServer | undefined,
  stop: AbortSignal,
  log: Log,
): Promise<void> {
  const { checkReadiness } = await import("./readiness.ts");
  health?.reportReadiness(() => checkReadiness(deps));
  for (let waitMs = 20; !stop.aborted; waitMs = Math.min(waitMs * 1.5, 1_000)) {
    const { ready } = await checkReadiness(deps);
    if (ready && !stop.aborted) {
      const task_queues = deps.workers.map(({ taskQueue }) => taskQueue);
      log.info({ event: "worker.ready", task_queues, identity: deps.identity, port: health?.port });
      return;
    }
    await pause(waitMs);
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
