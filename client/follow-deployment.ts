import { type Deployment, findDecidingDeployment, type OspSupabase } from "./data-api.ts";
import type { Patience } from "./patience.ts";

export interface DeploymentProgress {
  /** `requested` until the Edge Function has built the manifest. */
  deployment_status: "requested" | Deployment["deployment_status"];
  /** A newer one than the one asked for, once that has taken its place. */
  revision: number;
  logs: string | null;
}

export interface EndedDeployment extends Deployment {
  deployment_status: "deployed" | "failed" | "stopped";
}

const FIRST_POLL_MS = 250;
const LONGEST_POLL_MS = 2000;

/**
 * Waits until a revision is deployed, failed or stopped; where a newer one takes its place, until that is.
 *
 * @throws {TransportError} when the registry cannot be read
 * @throws {DeploymentAbortedError | DeploymentTimeoutError} when the patience ends first
 */
export async function followDeployment(
  supabase: OspSupabase,
  requested: { service_schema: string; revision: number },
  onProgress: (progress: DeploymentProgress) => void,
  patience: Patience,
): Promise<EndedDeployment> {
  let told: DeploymentProgress | undefined;
  for (let pollMs = FIRST_POLL_MS;; pollMs = Math.min(pollMs * 1.5, LONGEST_POLL_MS)) {
    const deployment = await findDecidingDeployment(supabase, requested, patience);
    const progress = progressOf(deployment, requested.revision);
    if (progress.deployment_status !== told?.deployment_status || progress.revision !== told.revision) {
      onProgress(progress);
      told = progress;
    }
    if (deployment && hasEnded(deployment)) return deployment;
    await patience.pause(pollMs);
    patience.check(
      `No longer waiting for revision ${progress.revision} of service "${requested.service_schema}", ` +
        `which is ${progress.deployment_status} and goes on`,
    );
  }
}

function progressOf(deployment: Deployment | undefined, revision: number): DeploymentProgress {
  if (deployment === undefined) return { deployment_status: "requested", revision, logs: null };
  return {
    deployment_status: deployment.deployment_status,
    revision: deployment.revision,
    logs: deployment.logs,
  };
}

function hasEnded(deployment: Deployment): deployment is EndedDeployment {
  return deployment.deployment_status !== "pending" && deployment.deployment_status !== "deploying";
}
