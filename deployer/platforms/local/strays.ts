import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { basename } from "node:path";
import { endProcess, identifyProcess, type ProcessIdentity } from "../../../host/process-identity.ts";
import { formatError } from "../../../supabase/functions/_shared/problems.ts";
import { graceMs, type Workers, type WorkerSettings } from "./workers.ts";

export interface FoundWorker extends ProcessIdentity {
  serviceSchema: string;
}

/** Worker processes of ours that are in no record: their deployer died before it wrote them down, or lost its right. */
export interface Strays {
  /** Of services that have a worker in a record: each is one too many. */
  doubles(): FoundWorker[];
  /** Of services without any record. Nothing is known of them here: the registry decides. */
  unknown(): FoundWorker[];
  of(serviceSchema: string): FoundWorker[];
  end(strays: FoundWorker[]): Promise<void>;
  /** As `end`, without waiting for it: what fails is found again at the next look. */
  drain(strays: FoundWorker[]): void;
}

export function createStrays(workers: Workers, { directory, instance, drainSeconds, log }: WorkerSettings): Strays {
  const ending = new Set<number>();
  const isRecorded = ({ serviceSchema }: FoundWorker) => workers.ofService(serviceSchema).length > 0;
  const all = () => {
    const known = new Set(workers.all().map((record) => record.process?.pid));
    return findWorkers(directory, instance).filter(({ pid, serviceSchema }) =>
      !known.has(pid) && !ending.has(pid) && !workers.isBusy(serviceSchema)
    );
  };
  const end = async (strays: FoundWorker[]) => {
    await Promise.all(strays.map(async (stray) => {
      log.warn({ event: "worker.stray_ended", service_schema: stray.serviceSchema, pid: stray.pid });
      ending.add(stray.pid);
      await endProcess(stray, graceMs(drainSeconds)).finally(() => ending.delete(stray.pid));
    }));
  };
  return {
    doubles: () => all().filter(isRecorded),
    unknown: () => all().filter((stray) => !isRecorded(stray)),
    of: (serviceSchema) => all().filter((stray) => stray.serviceSchema === serviceSchema),
    end,
    drain: (strays) =>
      void end(strays).catch((error: unknown) => {
        log.error({ event: "worker.stray_not_ended", error: formatError(error) });
      }),
  };
}

/**
 * Workers that run on this machine below a directory, of one instance or of any, by the marker in their environment: also
 * one whose deployer was killed between starting it and writing it down. The directory tells them from those of a copy of
 * the database, which carries the same marker. Linux only; elsewhere nothing is found.
 */
export function findWorkers(directory: string, instance?: string): FoundWorker[] {
  if (process.platform !== "linux") return [];
  return readdirSync("/proc").filter((name) => /^\d+$/.test(name)).map(Number).flatMap((pid) => {
    if (!runsBelow(pid, directory)) return [];
    const serviceSchema = markedService(pid, instance);
    const identity = serviceSchema === undefined ? undefined : identifyProcess(pid);
    return serviceSchema === undefined || identity === undefined ? [] : [{ ...identity, serviceSchema }];
  });
}

/** A removed code root still tells: the link then ends in " (deleted)". */
function runsBelow(pid: number, directory: string): boolean {
  try {
    return readlinkSync(`/proc/${pid}/cwd`).startsWith(`${directory}/`);
  } catch {
    return false; // ended meanwhile
  }
}

/** The service that a worker with the marker runs; undefined: it has none, has ended meanwhile, or is somebody else's. */
function markedService(pid: number, instance: string | undefined): string | undefined {
  try {
    const variables = readFileSync(`/proc/${pid}/environ`, "utf8").split("\0");
    const isMarked = instance === undefined
      ? variables.some((line) => line.startsWith("OSP_INSTANCE="))
      : variables.includes(`OSP_INSTANCE=${instance}`);
    const path = variables.find((line) => line.startsWith("MANIFEST_PATH="));
    return isMarked && path !== undefined ? basename(path, ".json") : undefined;
  } catch {
    return undefined;
  }
}
