import type { Deployment } from "./answers.ts";
import { standingOf } from "./deployment-status.ts";
import { RailwayError } from "./errors.ts";
import type { RailwayApi } from "./railway-api.ts";

/** Whether a deployment is something, or may come to be, until it is ended. */
export function mustEnd({ status }: Deployment): boolean {
  return !["REMOVED", "FAILED", "SKIPPED"].includes(status);
}

/** Cancels what is built, removes what runs; what has ended already is success. */
export async function endDeployment(deployment: Deployment, api: RailwayApi, signal: AbortSignal): Promise<void> {
  const { id, status } = deployment;
  if (!mustEnd(deployment) || status === "REMOVING") return;
  if (standingOf(deployment) !== "under_way") return await api.removeDeployment(id, signal);
  try {
    await api.cancelDeployment(id, signal);
  } catch (error) {
    // It has come to run since we looked.
    if (!(error instanceof RailwayError) || error.class !== "permanent") throw error;
    await api.removeDeployment(id, signal);
  }
}

/** The same for one that was not looked at yet; one that does not exist is success. */
export async function endDeploymentById(id: string, api: RailwayApi, signal: AbortSignal): Promise<void> {
  const deployment = (await api.deployments([id], signal)).found.get(id);
  if (deployment !== undefined) await endDeployment(deployment, api, signal);
}
