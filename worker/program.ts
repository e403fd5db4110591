/** What the worker's program has for its own code; the program sets it (deployer/bundle-worker.ts). */
export interface WorkerProgram {
  /** Temporal's packages that are in it, by name; each is loaded when it is asked for. */
  packages: Record<string, () => object>;
  /** The file that its threads of workflows start from. */
  thread: string;
}

declare global {
  var ospProgram: WorkerProgram | undefined;
}

/** The program that this code is part of. Undefined: it runs from its sources. */
export function workerProgram(): WorkerProgram | undefined {
  return globalThis.ospProgram;
}
