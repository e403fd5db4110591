import { endProcess, type ProcessIdentity } from "../../../host/process-identity.ts";
import { findWorkers } from "./strays.ts";
import { createWorkerFiles } from "./worker-record.ts";

/**
 * Ends every worker below a directory, to be started again by the deployer that next adopts them. Asks no database: it may
 * be gone, and its workers must not outlive it. A deployer that runs would start them again, so it is ended first.
 */
export async function stopAllWorkers(directory: string, graceMs: number): Promise<void> {
  const files = createWorkerFiles(directory);
  const end = (process: ProcessIdentity) => endProcess(process, graceMs);
  await Promise.all(
    files.all().map(async (record) => {
      if (record.process !== null) await end(record.process);
      files.save({ ...record, process: null, port: null });
    }),
  );
  await Promise.all(findWorkers(directory).map(end));
}
