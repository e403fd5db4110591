/** Who polls: which revision of which service, on which machine. Temporal shows it for every poller. */
export interface WorkerIdentity {
  serviceSchema: string;
  revision: number;
  /** Host and process, or what else tells two processes of one revision apart. */
  process: string;
  /** Version of the worker program. */
  workerVersion: string;
}

/** `my_service/3@host:4711 osp-worker/0.1.0` */
export function formatWorkerIdentity({ serviceSchema, revision, process, workerVersion }: WorkerIdentity): string {
  return `${serviceSchema}/${revision}@${process} osp-worker/${workerVersion}`;
}

/** The inverse; undefined for an identity that no worker of ours wrote. */
export function parseWorkerIdentity(identity: string): WorkerIdentity | undefined {
  const match = /^([a-z][a-z0-9_]{0,62})\/(\d{1,9})@(\S+) osp-worker\/(\S+)$/.exec(identity);
  const [, serviceSchema, revision, process, workerVersion] = match ?? [];
  if (!serviceSchema || !revision || !process || !workerVersion) return undefined;
  return { serviceSchema, revision: Number(revision), process, workerVersion };
}
