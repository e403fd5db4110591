import { PlatformError } from "../platform.ts";
import { tellsOfExit, workerExitError, workerLateError } from "../worker-outcome.ts";
import type { Deployment } from "./answers.ts";

/** The end of what was written while a deployment was built and while it ran. */
export interface DeploymentLogs {
  build: string;
  run: string;
}

/** What of a build's output is the fault of the machine or the network that it ran on. */
const infrastructure =
  /ETIMEDOUT|ECONNRESET|ECONNREFUSED|EAI_AGAIN|ENOSPC|no space left|network (?:error|timeout)|i\/o timeout|TLS handshake|503 Service|502 Bad|504 Gateway|rate ?limit|toomanyrequests|internal (?:server )?error|context deadline exceeded/i;

/** The error of a deployment that came to nothing. */
export function failureOfDeployment(
  deployment: Deployment,
  logs: DeploymentLogs,
  healthcheckSeconds: number,
): PlatformError {
  const place = `the logs of Railway deployment ${deployment.id}`;
  const { build, run } = logs;
  if (deployment.deploymentStopped && deployment.status === "SUCCESS" && !tellsOfExit(run)) {
    const message = `Its containers have ended: the worker ended by itself, or somebody stopped it; see ${place}`;
    return new PlatformError("transient", "deployment_stopped", message, { logTail: run });
  }
  if (tellsOfExit(run)) return workerExitError(undefined, run, place);
  // The image's last step runs the worker's own check.
  if (tellsOfExit(build)) return workerExitError(undefined, build, place);
  if (deployment.status === "CRASHED") {
    const message = `The worker crashed as often as Railway starts it again, without a last word; see ${place}`;
    return new PlatformError("permanent", "deployment_crashed", message, { logTail: run });
  }
  if (deployment.status === "SLEEPING") {
    const message = "Railway let the service fall asleep: a worker has to poll. Turn off serverless for it";
    return new PlatformError("permanent", "deployment_sleeping", message, { logTail: run });
  }
  if (run !== "") return workerLateError(healthcheckSeconds, run, place);
  const logTail = build;
  return infrastructure.test(build)
    ? new PlatformError("transient", "build_interrupted", `The build failed on its way: ${lastLine(build)}`, {
      logTail,
    })
    : new PlatformError("permanent", "build_failed", `The build failed: ${lastLine(build)}; see ${place}`, { logTail });
}

function lastLine(text: string): string {
  return text.trimEnd().split("\n").at(-1) || "it wrote nothing";
}
