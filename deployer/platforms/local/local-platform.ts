import { formatError } from "../../../supabase/functions/_shared/problems.ts";
import type { AbortCause } from "../../outcome.ts";
import type { Supervision } from "../../supervision.ts";
import {
  type DeployRequest,
  type DeployResult,
  type ListedService,
  type Platform,
  PlatformError,
  type ProgressReporter,
  type StopRequest,
} from "../platform.ts";
import { createRestarts, type Restarts } from "./restarts.ts";
import { createStrays, type Strays } from "./strays.ts";
import type { WorkerRecord } from "./worker-record.ts";
import { keyOf, runs, Workers, type WorkerSettings } from "./workers.ts";

export interface LocalPlatform extends Platform {
  /** Takes over what an earlier deployer left: adopts what runs, starts again what should, ends what nobody knows. */
  adopt(): Promise<void>;
  /**
   * Starts again, after a growing pause, the workers that died. Ends when the signal aborts. To be called first: nothing is
   * done to a worker without the lock.
   */
  supervise(right: Pick<Supervision, "isHeld" | "holdsLock">, signal: AbortSignal): Promise<void>;
  /** Ends, without waiting for it, the workers of a deployment that has ended. */
  endLeftovers(deploymentId: string): void;
}

/** What the parts of the platform work with. */
interface Local {
  workers: Workers;
  strays: Strays;
  restarts: Restarts;
  log: WorkerSettings["log"];
}

/** Workers as detached child processes of this machine. */
export function createLocalPlatform(settings: WorkerSettings): LocalPlatform {
  const workers = new Workers(settings);
  const local = { workers, strays: createStrays(workers, settings), restarts: createRestarts(), log: settings.log };
  return {
    name: "local",
    deploy: (request, report, signal) => deploy(request, report, local, signal),
    stop: (service, signal) => endService(service, local, signal),
    remove: (service, signal) => endService(service, local, signal), // an ended worker leaves only its output
    list: () => Promise.resolve(list(local)),
    adopt: () => adopt(local),
    supervise(right, signal) {
      workers.fenceBy(right.holdsLock);
      return supervise(local, right.isHeld, signal);
    },
    endLeftovers: (deploymentId) =>
      workers.drain(workers.all().filter((record) => record.deployment_id === deploymentId)),
  };
}

async function deploy(
  request: DeployRequest,
  report: ProgressReporter,
  { workers, strays, restarts }: Local,
  signal: AbortSignal,
): Promise<DeployResult> {
  const { serviceSchema, revision, manifest: { options: { replicas = 1 } } } = request;
  const isAsked = (record: WorkerRecord) => record.revision === revision && record.replica <= replicas;
  const others = () => workers.ofService(serviceSchema).filter((record) => !isAsked(record));
  workers.drain(others().filter(({ state }) => state === "candidate")); // of a deployer that went away
  const candidates = await unlessAborted(prepareAll(request, replicas, workers, signal), signal);
  for (const candidate of candidates) {
    report(`worker process ${candidate.process?.pid} runs; its output: ${workers.logFile(candidate)}`);
  }
  try {
    await Promise.all(candidates.map((candidate) => workers.untilReady(candidate, signal)));
    await request.untilServing(signal);
    await request.remember({}); // only whoever has the lease may end what served until here
    signal.throwIfAborted();
  } catch (error) {
    if (isLeftForSuccessor(error, signal)) throw error;
    if (signal.aborted) workers.drain(candidates); // whoever takes over does not wait for them
    else await Promise.all(candidates.map((candidate) => workers.end(candidate)));
    throw error;
  }
  for (const candidate of candidates) {
    workers.promote(candidate);
    restarts.forget(keyOf(candidate));
  }
  workers.drain(others()); // only now: the older revision has served until here
  strays.drain(strays.of(serviceSchema));
  return { serviceId: serviceSchema, deploymentId: candidates.map(({ process }) => process?.pid).join(" ") };
}

/** All of them, or none. */
async function prepareAll(request: DeployRequest, replicas: number, workers: Workers, signal: AbortSignal) {
  const prepared = await Promise.allSettled(
    Array.from({ length: replicas }, (_, index) => workers.prepare(request, index + 1)),
  );
  const candidates = prepared.flatMap((result) => result.status === "fulfilled" ? result.value : []);
  const failed = prepared.find((result) => result.status === "rejected");
  if (failed === undefined) return candidates;
  if (!isLeftForSuccessor(failed.reason, signal)) await Promise.all(candidates.map((one) => workers.end(one)));
  throw failed.reason;
}

async function endService({ serviceSchema, lease }: StopRequest, { workers, strays }: Local, signal: AbortSignal) {
  signal.throwIfAborted();
  await lease.confirm();
  const ended = Promise.all([
    strays.end(strays.of(serviceSchema)),
    ...workers.ofService(serviceSchema).map((record) => workers.end(record)),
  ]);
  await unlessAborted(ended, signal);
}

/** What runs in no record cannot be kept running: it counts for no deployment. */
const UNRECORDED = "unrecorded";

/** Each deployment that has a worker on its way or at work; ends, on the way, what is there twice. */
function list({ workers, strays, restarts }: Local): ListedService[] {
  workers.reread();
  strays.drain(strays.doubles());
  const ours = workers.all().filter(({ state }) => state !== "draining");
  const byDeployment = Map.groupBy(ours, (record) => `${record.service_schema}/${record.deployment_id}`);
  const recorded = [...byDeployment.values()].flatMap(([first, ...more]) =>
    first === undefined ? [] : {
      serviceSchema: first.service_schema,
      id: first.service_schema,
      // While one of several is down the supervision goes on starting it; one that is lost for good is deployed anew.
      isRunning: areComplete([first, ...more], (record) => runs(record) || mayRunAgain(record, workers, restarts)),
      deploymentId: first.deployment_id,
    }
  );
  const unrecorded = strays.unknown().map(({ serviceSchema }) => ({
    serviceSchema,
    id: serviceSchema,
    isRunning: true,
    deploymentId: UNRECORDED,
  }));
  return [...recorded, ...unrecorded];
}

/** Whether a deployment has as many workers as it should. */
function areComplete(records: WorkerRecord[], isGood: (record: WorkerRecord) => boolean): boolean {
  return records.filter(isGood).length >= Math.max(...records.map(({ replicas }) => replicas));
}

/** Whether starting it again, which the supervision does, may help. */
function mayRunAgain(record: WorkerRecord, workers: Workers, restarts: Restarts): boolean {
  return record.state === "current" && workers.isStartable(record) && !restarts.isHopeless(keyOf(record));
}

async function adopt({ workers, strays, log }: Local): Promise<void> {
  const records = workers.load();
  await strays.end(strays.doubles());
  for (const record of records) adoptOne(record, workers, log);
}

/** Only begins what takes its time: the deployments that wait must not wait for it. */
function adoptOne(record: WorkerRecord, workers: Workers, log: WorkerSettings["log"]): void {
  const { service_schema, revision, state } = record;
  const complain = (error: unknown) =>
    // The supervision tries it again.
    log.error({ event: "worker.adopt_failed", service_schema, revision, error: formatError(error) });
  if (state === "draining" || (state === "candidate" && !runs(record))) workers.drain([record]);
  else if (!runs(record)) workers.restart(record).catch(complain);
  else if (!workers.isUpToDate(record)) workers.renew(record).catch(complain);
  else log.info({ event: "worker.adopted", service_schema, revision });
}

async function supervise(
  { workers, restarts, log }: Local,
  isHeld: () => boolean,
  signal: AbortSignal,
): Promise<void> {
  while (await restarts.tick(signal)) {
    if (!isHeld()) continue;
    workers.boundLogs();
    for (const record of workers.died()) {
      const { service_schema, revision } = record;
      const wait = restarts.due(keyOf(record));
      if (wait.isNew) log.warn({ event: "worker.died", service_schema, revision, restartInMs: wait.inMs });
      if (!wait.isDue) continue;
      await workers.restart(record).catch((error: unknown) => {
        log.error({ event: "worker.restart_failed", service_schema, revision, error: formatError(error) });
      });
    }
  }
}

/** A worker that may yet become ready is not ended: the next attempt adopts it. */
function isLeftForSuccessor(error: unknown, signal: AbortSignal): boolean {
  const cause: AbortCause | undefined = signal.aborted ? signal.reason : undefined;
  if (cause !== undefined) return cause !== "superseded";
  return error instanceof PlatformError && (error.class === "unavailable" || error.code === "lease_lost");
}

/** Rejects as soon as the signal aborts; what was begun goes on by itself. */
async function unlessAborted<Result>(work: Promise<Result>, signal: AbortSignal): Promise<Result> {
  signal.throwIfAborted();
  const { promise: aborted, reject } = Promise.withResolvers<never>();
  const onAbort = () => reject(signal.reason);
  signal.addEventListener("abort", onAbort, { once: true });
  work.catch(() => {}); // where the signal was quicker, nobody else looks at it
  try {
    return await Promise.race([work, aborted]);
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}
