import { endProcess, isRunning } from "../../../host/process-identity.ts";
import { formatError } from "../../../supabase/functions/_shared/problems.ts";
import type { AbortCause } from "../../outcome.ts";
import { type Platform, PlatformError } from "../platform.ts";
import { createRestarts } from "./restarts.ts";
import { findWorkers } from "./strays.ts";
import type { WorkerRecord } from "./worker-record.ts";
import { Workers, type WorkerSettings } from "./workers.ts";

export interface LocalPlatform extends Platform {
  /** Takes over what an earlier deployer left: adopts what runs, starts again what should, ends what nobody knows. */
  adopt(): Promise<void>;
  /** Starts again, after a growing pause, the workers that died. Ends when the signal aborts. */
  supervise(isHeld: () => boolean, signal: AbortSignal): Promise<void>;
  /** Ends every worker, to be started again by the next `adopt()`. */
  stopAll(): Promise<void>;
}

const STRAY_GRACE_MS = 10_000;

/** Workers as detached child processes of this machine. */
export function createLocalPlatform(settings: WorkerSettings): LocalPlatform {
  const workers = new Workers(settings);
  return {
    name: "local",
    deploy: async (request, report, signal) => {
      const candidate = await workers.prepare(request);
      report(`worker process ${candidate.process?.pid} runs; its output: ${workers.logFile(candidate)}`);
      try {
        await workers.untilReady(candidate, signal);
      } catch (error) {
        if (!isLeftForSuccessor(error, signal)) await workers.end(candidate);
        throw error;
      }
      signal.throwIfAborted();
      workers.save({ ...candidate, state: "current" });
      // Only now: the older revision has served until here.
      workers.drain(workers.ofService(request.serviceSchema).filter(({ revision }) => revision !== request.revision));
      return { serviceId: request.serviceSchema, deploymentId: String(candidate.process?.pid) };
    },
    stop: (service) => workers.endService(service.serviceSchema),
    remove: async (service) => {
      await workers.endService(service.serviceSchema);
      workers.removeFiles(service.serviceSchema);
    },
    list: () => {
      const services = new Set(workers.all().map((record) => record.service_schema));
      return Promise.resolve(Array.from(services, (name) => ({ serviceSchema: name, id: name })));
    },
    adopt: () => adopt(workers, settings),
    supervise: (isHeld, signal) => supervise(workers, settings, isHeld, signal),
    async stopAll() {
      await Promise.all(workers.onDisk().map((record) => workers.suspend(record)));
      await Promise.all(
        findWorkers(settings.instance, settings.directory).map((stray) => endProcess(stray, STRAY_GRACE_MS)),
      );
    },
  };
}

async function adopt(workers: Workers, { instance, directory, log }: WorkerSettings): Promise<void> {
  const records = workers.load();
  const known = new Set(records.map((record) => record.process?.pid));
  for (const stray of findWorkers(instance, directory).filter(({ pid }) => !known.has(pid))) {
    log.warn({ event: "worker.stray_ended", pid: stray.pid });
    await endProcess(stray, STRAY_GRACE_MS);
  }
  for (const record of records) {
    // One that cannot be taken over must not keep the others from it: the supervision tries it again.
    await adoptOne(record, workers, log).catch((error: unknown) => {
      const { service_schema, revision } = record;
      log.error({ event: "worker.adopt_failed", service_schema, revision, error: formatError(error) });
    });
  }
}

async function adoptOne(record: WorkerRecord, workers: Workers, log: WorkerSettings["log"]): Promise<void> {
  const { service_schema, revision } = record;
  const runs = record.process !== null && isRunning(record.process);
  if (record.state === "draining" || (record.state === "candidate" && !runs)) workers.drain([record]);
  else if (!runs) await workers.start(record);
  else if (record.environment_sha256 !== workers.environmentSha256) await workers.start(await workers.suspend(record));
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
    const died = workers.all().filter((record) =>
      record.state === "current" && (record.process === null || !isRunning(record.process))
    );
    for (const record of isHeld() ? died : []) {
      const { service_schema, revision } = record;
      const wait = restarts.due(`${service_schema}/${revision}`);
      if (wait.isNew) log.warn({ event: "worker.died", service_schema, revision, restartInMs: wait.inMs });
      if (!wait.isDue) continue;
      await workers.start(record).catch((error: unknown) => {
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
