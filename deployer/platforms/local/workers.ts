import type { ChildProcess } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { cp, rm } from "node:fs/promises";
import { join } from "node:path";
import { isDeepStrictEqual } from "node:util";
import type { Logger } from "pino";
import { cacheDirectory } from "../../../host/cache-directory.ts";
import { endProcess, isRunning } from "../../../host/process-identity.ts";
import { manifestPath } from "../../../supabase/functions/_shared/manifest.ts";
import { formatError } from "../../../supabase/functions/_shared/problems.ts";
import { keepWorkerProgram } from "../../worker-program.ts";
import { type DeployRequest, PlatformError } from "../platform.ts";
import { variablesOfWorker } from "../worker-variables.ts";
import { createTurns } from "./turns.ts";
import { boundLog } from "./worker-log.ts";
import { startWorker, untilReady } from "./worker-process.ts";
import { createWorkerFiles, type WorkerRecord } from "./worker-record.ts";

export interface WorkerSettings {
  /** Holds code roots, records and output of the workers. */
  directory: string;
  /** Marker of this database's workers. */
  instance: string;
  /** What workers get besides their own variables, and can be started without: PATH, HOME. */
  environment: Record<string, string>;
  /** What decides how they work, such as Temporal's place: workers under other values are started again. */
  decisiveEnvironment: Record<string, string>;
  /** Until a new worker must be ready. */
  deployTimeoutSeconds: number;
  /** Time that a worker has for what it has begun; it is killed 10 s later. */
  drainSeconds: number;
  log: Logger;
}

/**
 * The worker processes of one database on this machine, each with its record on disk. What is done to one worker is done
 * in turn: one start, one ending, however many ask.
 */
export class Workers {
  readonly #settings: WorkerSettings;
  readonly #files;
  readonly #records = new Map<string, WorkerRecord>(); // by service, revision and replica
  readonly #children = new Map<string, ChildProcess>();
  readonly #turns = createTurns();
  readonly #decisive: Record<string, string>;
  #holdsLock = () => true;
  #isBundled = true;

  constructor(settings: WorkerSettings) {
    this.#settings = settings;
    this.#files = createWorkerFiles(settings.directory);
    this.#decisive = { ...settings.decisiveEnvironment, OSP_DRAIN_SECONDS: String(settings.drainSeconds) };
  }

  /** From now on workers are only touched while this says so, asked at each step. */
  fenceBy(holdsLock: () => boolean): void {
    this.#holdsLock = holdsLock;
  }

  /** Reads the records anew, as an earlier deployer left them. */
  load(): WorkerRecord[] {
    this.#records.clear();
    const ours = this.#files.all().filter((record) => record.instance === this.#settings.instance);
    for (const record of ours) this.#records.set(keyOf(record), record);
    void this.#program(); // made by the time that the first worker is to start: it takes half a second
    return this.all();
  }

  /**
   * Brings memory and disk together again: a deployer that was paused while another took over may have written since. What
   * we know wins; what only the disk knows was begun by the other and is known from now on.
   */
  reread(): void {
    for (const record of this.#files.all().filter(({ instance }) => instance === this.#settings.instance)) {
      const key = keyOf(record);
      if (!this.#records.has(key) && !this.#turns.isTaken(key)) this.#records.set(key, record);
    }
    for (const record of this.all()) {
      if (this.#turns.isTaken(keyOf(record))) continue;
      if (!isDeepStrictEqual(this.#files.read(record), record)) this.#save(record);
    }
  }

  /** Whether something is being done to a worker of the service: a process of it may not be written down yet. */
  isBusy(serviceSchema: string): boolean {
    return this.#turns.keys().some((key) => key.startsWith(`${serviceSchema}/`));
  }

  all(): WorkerRecord[] {
    return [...this.#records.values()];
  }

  ofService(serviceSchema: string): WorkerRecord[] {
    return this.all().filter((record) => record.service_schema === serviceSchema);
  }

  logFile(record: WorkerRecord): string {
    return this.#files.logFile(record);
  }

  /**
   * A process of a request: the one that runs for it already, or a new one in a code root of its own. One that an earlier
   * deployment with the same number left is ended first.
   */
  prepare(request: DeployRequest, replica: number): Promise<WorkerRecord> {
    const { serviceSchema: service_schema, revision, deploymentId, manifest: { options: { replicas = 1 } } } = request;
    const record: WorkerRecord = {
      instance: this.#settings.instance,
      service_schema,
      revision,
      replica,
      replicas,
      deployment_id: deploymentId,
      state: "candidate",
      process: null,
      port: null,
      environment_sha256: hashOf(this.#decisiveOf(request.directory, service_schema)),
    };
    return this.#inTurn(record, async (existing) => {
      if (existing?.deployment_id === deploymentId && existing.state !== "draining" && runs(existing)) return existing;
      if (existing !== undefined) {
        await request.remember({}); // only whoever has the lease may end it
        await this.#end(existing);
      }
      this.#save(record); // before anything of it is there: whatever dies, it is found again
      const codeRoot = this.#files.codeRoot(record);
      await rm(codeRoot, { recursive: true, force: true });
      await cp(request.directory, codeRoot, { recursive: true });
      await request.remember({}); // or start another
      return await this.#start(record, await this.#program());
    });
  }

  /** @throws {PlatformError} when the worker ends, or is not ready in time */
  async untilReady(record: WorkerRecord, signal: AbortSignal): Promise<void> {
    const { process, port } = record;
    if (process === null || port === null) throw new Error("a started worker has a process and a port");
    const worker = { process, port, child: this.#children.get(keyOf(record)) };
    await untilReady(worker, this.logFile(record), this.#settings.deployTimeoutSeconds * 1000, signal);
  }

  /** From here on it is kept running. */
  promote(record: WorkerRecord): void {
    const current = this.#records.get(keyOf(record));
    if (current === undefined) throw new Error(`worker ${keyOf(record)} was ended while it was being deployed`);
    this.#save({ ...current, state: "current" });
  }

  /** Whether what it runs from is still there. */
  isStartable(record: WorkerRecord): boolean {
    return existsSync(join(this.#files.codeRoot(record), manifestPath(record.service_schema)));
  }

  /** Whether it was started in the environment that it would be started in now. */
  isUpToDate(record: WorkerRecord): boolean {
    const decisive = this.#decisiveOf(this.#files.codeRoot(record), record.service_schema);
    return record.environment_sha256 === hashOf(decisive);
  }

  /** Kept running, found dead, and nobody sees to it. */
  died(): WorkerRecord[] {
    return this.all().filter((one) => one.state === "current" && !runs(one) && !this.#turns.isTaken(keyOf(one)));
  }

  /** Starts a worker that has no process, as its record on disk says by now: another deployer may have done so. */
  async restart(record: WorkerRecord): Promise<void> {
    await this.#inTurn(record, async () => {
      const program = await this.#program();
      const current = this.#files.read(record); // as late as can be
      if (current === undefined) this.#records.delete(keyOf(record));
      else if (runs(current)) this.#records.set(keyOf(record), current);
      else if (current.state !== "draining") await this.#start(current, program);
    });
  }

  /** Ends a worker in order and starts it again, in the environment of now. */
  async renew(record: WorkerRecord): Promise<void> {
    await this.#inTurn(record, async (current) => {
      if (current === undefined || current.state === "draining") return;
      if (current.process !== null) await endProcess(current.process, this.#graceMs());
      await this.#start(this.#save({ ...current, process: null, port: null }), await this.#program());
    });
  }

  /** Ends a worker in order and forgets it. */
  async end(record: WorkerRecord): Promise<void> {
    await this.#inTurn(record, async (current) => {
      if (current !== undefined) await this.#end(current);
    });
  }

  /** As `end`, without waiting for it. */
  drain(records: WorkerRecord[]): void {
    for (const record of records) {
      const { service_schema, revision } = record;
      this.end(record).catch((error: unknown) =>
        this.#settings.log.error({ event: "worker.drain_failed", service_schema, revision, error: formatError(error) })
      );
    }
  }

  boundLogs(): void {
    for (const record of this.all()) boundLog(this.logFile(record));
  }

  #inTurn<Result>(
    record: WorkerRecord,
    work: (current: WorkerRecord | undefined) => Promise<Result>,
  ): Promise<Result> {
    const key = keyOf(record);
    return this.#turns.take(key, () => work(this.#records.get(key)));
  }

  /** Right before each step, in the same breath: a process may be paused anywhere else, and go on much later. */
  #assertLock(): void {
    if (this.#holdsLock()) return;
    throw new PlatformError("transient", "lease_lost", "Another deployer supervises the workers by now");
  }

  #save(record: WorkerRecord): WorkerRecord {
    this.#assertLock();
    this.#records.set(keyOf(record), record);
    this.#files.save(record);
    return record;
  }

  #decisiveOf(codeRoot: string, serviceSchema: string): Record<string, string> {
    return variablesOfWorker(this.#decisive, codeRoot, serviceSchema);
  }

  async #start(record: WorkerRecord, program: Record<string, string>): Promise<WorkerRecord> {
    const { service_schema, revision } = record;
    const codeRoot = this.#files.codeRoot(record);
    const decisive = this.#decisiveOf(codeRoot, service_schema);
    const { process, port, child } = await startWorker(
      codeRoot,
      this.logFile(record),
      () => this.#assertLock(),
      {
        ...this.#settings.environment,
        ...program,
        ...decisive,
        MANIFEST_PATH: manifestPath(service_schema),
        OSP_INSTANCE: this.#settings.instance,
      },
    );
    this.#children.set(keyOf(record), child);
    const started = this.#save({ ...record, process, port, environment_sha256: hashOf(decisive) });
    this.#settings.log.info({ event: "worker.started", service_schema, revision, pid: process.pid });
    return started;
  }

  /** Without it a worker starts from its sources. */
  async #program(): Promise<Record<string, string>> {
    try {
      return { OSP_WORKER_PROGRAM: await keepWorkerProgram(cacheDirectory(this.#settings.environment)) };
    } catch (error) {
      if (this.#isBundled && this.#holdsLock()) {
        const message =
          "The worker cannot be bundled or kept in the cache directory: workers start from its sources, a little slower";
        this.#settings.log.warn({ event: "worker.not_bundled", error: formatError(error), message });
      }
      this.#isBundled = false;
      return {};
    }
  }

  async #end(record: WorkerRecord): Promise<void> {
    const { service_schema, revision, process } = record;
    if (process !== null) {
      this.#save({ ...record, state: "draining" });
      const how = await endProcess(process, this.#graceMs());
      this.#settings.log.info({ event: `worker.${how}`, service_schema, revision });
    }
    if (!this.#holdsLock()) return; // its record tells whoever has it by now that it is to end
    this.#records.delete(keyOf(record));
    this.#children.delete(keyOf(record));
    this.#files.forget(record);
  }

  #graceMs(): number {
    return graceMs(this.#settings.drainSeconds);
  }
}

function hashOf(environment: Record<string, string>): string {
  const variables = Object.entries(environment).map(([name, value]) => `${name}=${value}`).toSorted();
  return createHash("sha256").update(JSON.stringify(variables)).digest("hex");
}

/** After SIGTERM, before SIGKILL: the worker itself gives up 5 s after its drain time. */
export function graceMs(drainSeconds: number): number {
  return (drainSeconds + 10) * 1000;
}

export function runs({ process }: WorkerRecord): boolean {
  return process !== null && isRunning(process);
}

/** A service has as many workers of a revision as its manifest says. */
export function keyOf({ service_schema, revision, replica }: WorkerRecord): string {
  return `${service_schema}/${revision}/${replica}`;
}
