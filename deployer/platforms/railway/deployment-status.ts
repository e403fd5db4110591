import type { Deployment } from "./answers.ts";

/** Where a deployment stands. A status that we do not know yet is taken for one on the way. */
export type Standing = "under_way" | "running" | "failed" | "ended";

const standings: Record<string, Standing> = {
  SUCCESS: "running",
  SLEEPING: "failed",
  FAILED: "failed",
  CRASHED: "failed",
  SKIPPED: "ended",
  REMOVING: "ended",
  REMOVED: "ended",
};

/** Those that only a person can move on. */
export const waitsForPerson = ({ status }: Deployment) => status === "WAITING" || status === "NEEDS_APPROVAL";

export function standingOf({ status, deploymentStopped }: Deployment): Standing {
  const standing = standings[status] ?? "under_way";
  // Its containers have ended, by themselves or because somebody stopped them.
  return standing === "running" && deploymentStopped ? "failed" : standing;
}

/** Whether it runs, or may yet come to run. */
export function isAlive(deployment: Deployment): boolean {
  return ["under_way", "running"].includes(standingOf(deployment)) || deployment.status === "SLEEPING";
}

export function runningReplicas({ instances }: Deployment): number {
  return instances.filter(({ status }) => status === "RUNNING").length;
}
