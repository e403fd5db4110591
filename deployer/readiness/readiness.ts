import type { Manifest } from "../../supabase/functions/_shared/manifest.ts";

/** What should serve: one revision with the manifest that names its task queues. */
export interface Deployment {
  serviceSchema: string;
  revision: number;
  manifest: Manifest;
}

export type ReadinessResult =
  | { ready: true; workerVersion: string | undefined }
  | { ready: false; reason: string; /** The judge itself could not be asked. */ isUnavailable: boolean };

/** Does this revision really serve its queues? */
export interface Readiness {
  wait(deployment: Deployment, signal: AbortSignal): Promise<ReadinessResult>;
  /** Why the judge itself cannot be asked now; undefined: it answers. */
  whatIsAway(signal: AbortSignal): Promise<string | undefined>;
}

/** Trusts what `platform.deploy` said: for load tests, where no Temporal runs. */
export const platformReadiness: Readiness = {
  wait: () => Promise.resolve({ ready: true, workerVersion: undefined }),
  whatIsAway: () => Promise.resolve(undefined),
};
