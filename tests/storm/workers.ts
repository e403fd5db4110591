import { existsSync, readdirSync, readFileSync, readlinkSync } from "node:fs";
import { basename, join } from "node:path";
import { findWorkers } from "../../deployer/platforms/local/strays.ts";
import {
  createWorkerFiles,
  type WorkerRecord,
  workerRecordSchema,
} from "../../deployer/platforms/local/worker-record.ts";
import { isRunning } from "../../host/process-identity.ts";

export interface WorkerProcess {
  pid: number;
  service: string;
  /** Of the code root that it runs in; 0 where that is gone. */
  revision: number;
}

/** Worker processes of a stack, by service. */
export function workerProcesses(directory: string): Map<string, WorkerProcess[]> {
  const found = findWorkers(directory).map(({ pid, serviceSchema }): WorkerProcess => ({
    pid,
    service: serviceSchema,
    revision: revisionOf(pid),
  }));
  return Map.groupBy(found, ({ service }) => service);
}

function revisionOf(pid: number): number {
  try {
    // A second worker of revision 5 has 5-2; of a removed one the link ends in " (deleted)".
    return Number(/^(\d+)(-\d+)?$/.exec(basename(readlinkSync(`/proc/${pid}/cwd`)))?.[1] ?? 0);
  } catch {
    return 0;
  }
}

/** A worker as its record tells it. */
export interface RecordedWorker extends WorkerRecord {
  /** Whether what it runs from is there: else it cannot be started. */
  hasFiles: boolean;
}

/** The records of a stack's workers, as they are on disk; one that is being written or removed now is left out. */
export function workerRecords(directory: string): RecordedWorker[] {
  const { codeRoot } = createWorkerFiles(directory);
  return listOf(directory).flatMap((service) =>
    listOf(join(directory, service)).filter((name) => name.endsWith(".json")).flatMap((name) => {
      try {
        const record = workerRecordSchema.parse(JSON.parse(readFileSync(join(directory, service, name), "utf8")));
        return { ...record, hasFiles: existsSync(codeRoot(record)) };
      } catch {
        return [];
      }
    })
  );
}

/** Revisions of each service that are to be kept running and do run. */
export function currentRevisions(directory: string): Map<string, number[]> {
  const current = workerRecords(directory).filter(({ state, process }) =>
    state === "current" && process !== null && isRunning(process)
  );
  const byService = Map.groupBy(current, ({ service_schema }) => service_schema);
  return new Map(
    [...byService].map(([service, records]) => [service, [...new Set(records.map(({ revision }) => revision))]]),
  );
}

function listOf(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch {
    return []; // there is none, or none any more
  }
}
