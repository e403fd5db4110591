import { endProcess } from "../../../host/process-identity.ts";
import { formatError } from "../../../supabase/functions/_shared/problems.ts";
import type { AbortCause } from "../../outcome.ts";
import { type Platform, PlatformError, type StopRequest } from "../platform.ts";
import { createRestarts } from "./restarts.ts";
import { findWorkers } from "./strays.ts";
import type { WorkerRecord } from "./worker-record.ts";
import { runs, Workers, type WorkerSettings } from "./workers.ts";

export interface LocalPlatform extends Platform {
  /** Takes over what an earlier deployer left: adopts what runs, starts again what should, ends what nobody knows. */
  adopt(): Promise<void>;
  /** Starts again, after a growing pause, the workers that died. Ends when the signal aborts. */
  supervise(isHeld: () => boolean, signal: AbortSignal): Promise<void>;
}

const STRAY_GRACE_MS = 10_000;

/** Workers as detached child processes of this machine. */
export function createLocalPlatform(settings: WorkerSettings): LocalPlatform {
  const workers = new Workers(settings);
  const endService = async ({ serviceSchema, lease }: StopRequest, signal: AbortSignal) => {
    signal.throwIfAborted();
    await lease.confirm();
    const ended = Promise.all(workers.ofService(serviceSchema).map((record) => workers.end(record)));
    await unlessAborted(ended, signal);
  };
  return {
    name: "local",
    deploy: async (request, report, signal) => {
      const others = () =>
        workers.ofService(request.serviceSchema).filter(({ revision }) => revision !== request.revision);
      workers.drain(others().filter(({ state }) => state === "candidate")); // of a deployer that went away
      const candidate = await unlessAborted(workers.prepare(request), signal);
      report(`worker process ${candidate.process?.pid} runs; its output: ${workers.logFile(candidate)}`);
      try {
        await workers.untilReady(candidate, signal);
        await request.untilServing(signal);
        signal.throwIfAborted();
      } catch (error) {
        if (isLeftForSuccessor(error, signal)) throw error;
        if (signal.aborted) workers.drain([candidate]); // whoever takes over does not wait for it
        else await workers.end(candidate);
        throw error;
      }
      workers.promote(candidate);
      workers.drain(others()); // only now: the older revision has served until here
      return { serviceId: request.serviceSchema, deploymentId: String(candidate.process?.pid) };
    },
    stop: endService,
    remove: endService, // an ended worker leaves only its output
    list: () => {
      const services = new Set(workers.all().map((record) => record.service_schema));
      return Promise.resolve(Array.from(services, (name) => ({ serviceSchema: name, id: name })));
    },
    adopt: () => adopt(workers, settings),
    supervise: (isHeld, signal) => supervise(workers, settings, isHeld, signal),
  };
}

async function adopt(workers: Workers, { instance, directory, log }: WorkerSettings): Promise<void> {
  const records = workers.load();
  const known = new Set(records.map((record) => record.process?.pid));
  const strays = findWorkers(directory, instance).filter(({ pid }) => !known.has(pid));
  await Promise.all(strays.map(async (stray) => {
    log.warn({ event: "worker.stray_ended", pid: stray.pid });
    await endProcess(stray, STRAY_GRACE_MS);
  }));
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
  else if (record.environment_sha256 !== workers.environmentSha256) workers.renew(record).catch(complain);
  else log.info({ event: "worker.adopted", service_schema, revision });
}

async function supervise(
  workers: Workers,
  { log }: WorkerSettings,
  isHeld: () => boolean,
  signal: AbortSignal,
): Promise<void> {
  const restarts = createRestarts();
  while (await restarts.tick(signal)) {
    if (!isHeld()) continue;
    workers.boundLogs();
    for (const record of workers.died()) {
      const { service_schema, revision } = record;
      const wait = restarts.due(`${service_schema}/${revision}`);
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
  return error instanceof PlatformError && error.class === "unavailable";
}

/** Rejects as soon as the signal aborts; what was begun goes on by itself. */
async function unlessAborted<Result>(work: Promise<Result>, signal: AbortSignal): Promise<Result> {
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
