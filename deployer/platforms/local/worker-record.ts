import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import { processIdentitySchema } from "../../../host/process-identity.ts";

/** A worker process as it is written down, so that a later deployer finds it and does not start a second one. */
export const workerRecordSchema = z.object({
  instance: z.string(),
  service_schema: z.string(),
  revision: z.int(),
  /** Which of the revision's workers, from 1. Records of when there was one lack it. */
  replica: z.int().min(1).default(1),
  /** How many the revision has: where one of them is lost with its record, the others tell. Older records lack it. */
  replicas: z.int().min(1).default(1),
  deployment_id: z.string(),
  /** `candidate`: on its way to serving. `current`: kept running. `draining`: told to end. */
  state: z.enum(["candidate", "current", "draining"]),
  /** Null: it is to be started, and has no process now. */
  process: processIdentitySchema.nullable(),
  /** Of the environment it was started in: under another one, such as a new Temporal address, it is started again. */
  environment_sha256: z.string(),
  /** Where its /readyz answers, on 127.0.0.1. */
  port: z.int().nullable(),
});
export type WorkerRecord = z.infer<typeof workerRecordSchema>;
/** Which worker a record is of. */
export type WorkerName = Pick<WorkerRecord, "service_schema" | "revision" | "replica">;

export function workersDirectory(stateDirectory: string): string {
  return join(stateDirectory, "workers");
}

/** The directory of this machine in which the workers of one database live. */
export interface WorkerFiles {
  /** A worker's code root; holds its manifest. */
  codeRoot(worker: WorkerName): string;
  /** Where a worker's output is kept. */
  logFile(worker: WorkerName): string;
  save(record: WorkerRecord): void;
  /** The record as it is on disk by now; undefined when it is gone. */
  read(record: WorkerRecord): WorkerRecord | undefined;
  /** Removes a record and its code root; the worker's output is kept. */
  forget(record: WorkerRecord): void;
  all(): WorkerRecord[];
}

/**
 * `<directory>/<service>/<revision>/` is a code root, with `<revision>.json` and `<revision>.log` beside it. A second worker
 * of the revision has `<revision>-2` instead, and so on.
 */
export function createWorkerFiles(directory: string): WorkerFiles {
  const pathOf = ({ service_schema, revision, replica }: WorkerName, ending: string) =>
    join(directory, service_schema, `${revision}${replica === 1 ? "" : `-${replica}`}${ending}`);
  const recordFile = (worker: WorkerName) => pathOf(worker, ".json");
  return {
    codeRoot: (worker) => pathOf(worker, ""),
    logFile: (worker) => pathOf(worker, ".log"),
    save(record) {
      // What workers print is not everybody's to read.
      mkdirSync(join(directory, record.service_schema), { recursive: true, mode: 0o700 });
      const file = recordFile(record);
      // Written beside and renamed: a record is whole or not there, whatever dies.
      writeFileSync(`${file}.new`, JSON.stringify(record));
      renameSync(`${file}.new`, file);
    },
    read: (record) => existsSync(recordFile(record)) ? readRecord(recordFile(record)) : undefined,
    forget(record) {
      rmSync(recordFile(record), { force: true });
      rmSync(pathOf(record, ""), { recursive: true, force: true });
    },
    all: () =>
      listOf(directory).flatMap((service) =>
        listOf(join(directory, service)).filter((name) => name.endsWith(".json")).flatMap((name) =>
          readRecord(join(directory, service, name)) ?? []
        )
      ),
  };
}

/** Undefined for a file that holds no record: it is set aside, so that one cannot keep all others from being read. */
function readRecord(file: string): WorkerRecord | undefined {
  try {
    return workerRecordSchema.parse(JSON.parse(readFileSync(file, "utf8")));
  } catch {
    renameSync(file, `${file}.unreadable`);
    return undefined;
  }
}

function listOf(directory: string): string[] {
  return statSync(directory, { throwIfNoEntry: false })?.isDirectory() ? readdirSync(directory) : [];
}
