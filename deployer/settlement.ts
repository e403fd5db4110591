import type { Settlement } from "./outcome.ts";

/** What a settlement writes into the row and its attempt: the columns that the registry's statement reads. */
export function settlementColumns(attempt: number, settlement: Settlement) {
  const failure = "failure" in settlement ? settlement.failure : undefined;
  return {
    outcome: settlement.outcome,
    status: {
      deployed: "deployed",
      stopped: "stopped",
      superseded: "stopped",
      failed: "failed",
      handed_back: "pending",
      retry: "pending",
      deferred: "pending",
      throttled: "pending",
    }[settlement.outcome],
    delay_seconds: "delaySeconds" in settlement ? settlement.delaySeconds : null,
    error_class: failure?.class,
    error_code: failure?.code,
    error_message: failure?.message,
    exit_code: failure?.facts.exitCode,
    log_tail: failure?.facts.logTail,
    rejected_deployment_id: failure?.facts.rejectedDeploymentId,
    has_replaced: failure?.facts.hasReplaced,
    worker_version: settlement.outcome === "deployed" ? settlement.workerVersion : undefined,
    platform_service_id: settlement.outcome === "deployed" ? settlement.serviceId : undefined,
    platform_deployment_id: settlement.outcome === "deployed" ? settlement.platformDeploymentId : undefined,
    line: settlementLine(attempt, settlement),
  };
}

/** A line for the logs of the row. */
function settlementLine(attempt: number, settlement: Settlement): string {
  switch (settlement.outcome) {
    case "deployed":
      return `attempt ${attempt}: deployed, the worker polls its task queues`;
    case "stopped":
      return `attempt ${attempt}: stopped, nothing of the service runs any more`;
    case "superseded":
      return `attempt ${attempt}: ended, a newer revision takes over`;
    case "handed_back":
      return `attempt ${attempt}: handed back: ${settlement.reason}`;
    case "failed":
      return `attempt ${attempt}: failed (${settlement.failure.code}): ${settlement.failure.message}`;
    case "retry":
    case "deferred":
    case "throttled": {
      const { outcome, failure, delaySeconds } = settlement;
      const what = outcome === "retry" ? "failed" : `${outcome}, which uses up no attempt`;
      return `attempt ${attempt}: ${what} (${failure.code}): ${failure.message}; next try in ${
        delaySeconds.toFixed(1)
      } s`;
    }
  }
}
