import type { ChildProcess } from "node:child_process";
import { createHash } from "node:crypto";
import { cp, rm } from "node:fs/promises";
import { join } from "node:path";
import type { Logger } from "pino";
import { endProcess, isRunning } from "../../../host/process-identity.ts";
import { manifestPath } from "../../../supabase/functions/_shared/manifest.ts";
import { formatError } from "../../../supabase/functions/_shared/problems.ts";
import type { DeployRequest } from "../platform.ts";
import { startWorker, untilReady } from "./worker-process.ts";
import { createWorkerFiles, type WorkerRecord } from "./worker-record.ts";

export interface WorkerSettings {
  /** Holds code roots, records and output of the workers. */
  directory: string;
  /** Marker of this database's workers. */
  instance: string;
  /** What workers get besides their own variables: Temporal's place, HOME, PATH. */
  environment: Record<string, string>;
  /** Until a new worker must be ready. */
  deployTimeoutSeconds: number;
  /** Time that a worker has for what it has begun; it is killed 10 s later. */
  drainSeconds: number;
  log: Logger;
}

/** The worker processes of one database on this machine, each with its record on disk. */
export class Workers {
  readonly #settings: WorkerSettings;
  readonly #files;
  readonly #records = new Map<string, WorkerRecord>(); // by service and revision
  readonly #children = new Map<string, ChildProcess>();
  readonly #draining = new Set<Promise<void>>();
  readonly environmentSha256: string;

  constructor(settings: WorkerSettings) {
    this.#settings = settings;
    this.#files = createWorkerFiles(settings.directory);
    const variables = Object.entries(settings.environment).map(([name, value]) => `${name}=${value}`).toSorted();
    this.environmentSha256 = createHash("sha256").update(JSON.stringify(variables)).digest("hex");
  }

  /** Reads the records anew, as an earlier deployer left them. */
  load(): WorkerRecord[] {
    this.#records.clear();
    for (const record of this.onDisk()) this.#records.set(keyOf(record), record);
    return this.all();
  }

  onDisk(): WorkerRecord[] {
    return this.#files.all().filter((record) => record.instance === this.#settings.instance);
  }

  all(): WorkerRecord[] {
    return [...this.#records.values()];
  }

  ofService(serviceSchema: string): WorkerRecord[] {
    return this.all().filter((record) => record.service_schema === serviceSchema);
  }

  save(record: WorkerRecord): WorkerRecord {
    this.#records.set(keyOf(record), record);
    this.#files.save(record);
    return record;
  }

  logFile(record: WorkerRecord): string {
    return this.#files.logFile(record.service_schema, record.revision);
  }

  /** The process of a request: the one that runs for it already, or a new one in a code root of its own. */
  async prepare(request: DeployRequest): Promise<WorkerRecord> {
    const { serviceSchema, revision, deploymentId } = request;
    const existing = this.#records.get(`${serviceSchema}/${revision}`);
    if (existing?.process && existing.deployment_id === deploymentId && isRunning(existing.process)) return existing;
    const codeRoot = this.#files.codeRoot(serviceSchema, revision);
    await rm(codeRoot, { recursive: true, force: true });
    await cp(request.directory, codeRoot, { recursive: true });
    return await this.start({
      instance: this.#settings.instance,
      service_schema: serviceSchema,
      revision,
      deployment_id: deploymentId,
      state: "candidate",
      process: null,
      port: null,
      environment_sha256: this.environmentSha256,
    });
  }

  async start(record: WorkerRecord): Promise<WorkerRecord> {
    const { service_schema, revision } = record;
    const { environment, instance, drainSeconds, log } = this.#settings;
    const codeRoot = this.#files.codeRoot(service_schema, revision);
    const { process, port, child } = await startWorker(codeRoot, this.logFile(record), {
      ...environment,
      MANIFEST_PATH: manifestPath(service_schema),
      OSP_INSTANCE: instance,
      OSP_DRAIN_SECONDS: String(drainSeconds),
    });
    this.#children.set(keyOf(record), child);
    const started = this.save({ ...record, process, port, environment_sha256: this.environmentSha256 });
    log.info({ event: "worker.started", service_schema, revision, pid: process.pid });
    return started;
  }

  /** @throws {PlatformError} when the worker ends, or is not ready in time */
  async untilReady(record: WorkerRecord, signal: AbortSignal): Promise<void> {
    const { process, port } = record;
    if (process === null || port === null) throw new Error("a started worker has a process and a port");
    const worker = { process, port, child: this.#children.get(keyOf(record)) };
    await untilReady(worker, this.logFile(record), this.#settings.deployTimeoutSeconds * 1000, signal);
  }

  /** Ends a worker in order and forgets it. */
  async end(record: WorkerRecord): Promise<void> {
    const { service_schema, revision, process } = record;
    if (process !== null) {
      this.save({ ...record, state: "draining" });
      const how = await endProcess(process, this.#graceMs());
      this.#settings.log.info({ event: `worker.${how}`, service_schema, revision });
    }
    this.#records.delete(keyOf(record));
    this.#children.delete(keyOf(record));
    this.#files.forget(record);
  }

  /** As `end`, without waiting for it. */
  drain(records: WorkerRecord[]): void {
    for (const record of records) {
      const ended = this.end(record)
        .catch((error: unknown) =>
          this.#settings.log.error({ event: "worker.drain_failed", error: formatError(error) })
        )
        .finally(() => this.#draining.delete(ended));
      this.#draining.add(ended);
    }
  }

  /** Ends all workers of a service, those that drain already included. */
  async endService(serviceSchema: string): Promise<void> {
    await Promise.all([...this.#draining, ...this.ofService(serviceSchema).map((record) => this.end(record))]);
  }

  removeFiles(serviceSchema: string): void {
    this.#files.removeService(serviceSchema);
  }

  /** Ends the process, and keeps the record: whoever loads it starts it again. */
  async suspend(record: WorkerRecord): Promise<WorkerRecord> {
    if (record.process !== null) await endProcess(record.process, this.#graceMs());
    return this.save({ ...record, process: null, port: null });
  }

  /** The worker itself gives up 5 s after its drain time. */
  #graceMs(): number {
    return (this.#settings.drainSeconds + 10) * 1000;
  }
}

function keyOf(record: WorkerRecord): string {
  return join(record.service_schema, String(record.revision));
}
