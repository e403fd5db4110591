import { setTimeout as pause } from "node:timers/promises";
import { formatError, storable } from "../../../supabase/functions/_shared/problems.ts";
import { type DeployRequest, PlatformError } from "../platform.ts";
import { tellsOfExit } from "../worker-outcome.ts";
import type { Deployment, LogLine } from "./answers.ts";
import type { DeployContext } from "./deploy-context.ts";
import { type DeploymentLogs, failureOfDeployment } from "./deployment-failure.ts";
import type { RailwayApi } from "./railway-api.ts";

const TAIL_CHARACTERS = 16_384;
/** A worker's last lines may show a moment after it has ended. */
const LAG_MS = 3000;

/** The error of a deployment that came to nothing, by what it wrote, without what is secret in it. */
export async function explainFailure(
  deployment: Deployment,
  request: DeployRequest,
  { api, settings, redact }: DeployContext,
  signal: AbortSignal,
): Promise<PlatformError> {
  try {
    const { build, run } = await readLogs(deployment, api, signal);
    const tail = (text: string) => redact(text).slice(-TAIL_CHARACTERS);
    const logs = { build: tail(build), run: tail(run) };
    const error = failureOfDeployment(deployment, logs, settings.healthcheckSeconds);
    return error.code === "temporal_unreachable" ? await judgeUnreached(error, request, signal) : error;
  } catch (error) {
    signal.throwIfAborted();
    const { id, status } = deployment;
    const message = `Railway deployment ${id} is ${status}, and its logs cannot be read: ${formatError(error)}`;
    return new PlatformError("transient", "deployment_failed", message, {}, { cause: error });
  }
}

/** Where Temporal answers us and not the worker, waiting would mean one build after another, for ever. */
async function judgeUnreached(
  error: PlatformError,
  request: DeployRequest,
  signal: AbortSignal,
): Promise<PlatformError> {
  try {
    await request.untilTemporalAnswers(signal);
  } catch {
    return error;
  }
  const message = `${error.message}. The deployer does: is TEMPORAL_ADDRESS one that Railway's containers can reach?`;
  return new PlatformError("transient", error.code, message, error.facts);
}

async function readLogs({ id, status }: Deployment, api: RailwayApi, signal: AbortSignal): Promise<DeploymentLogs> {
  const read = async () => {
    const { build, run } = await api.logs(id, signal);
    return { build: logText(build), run: logText(run) };
  };
  const logs = await read();
  const isComplete = status === "CRASHED" ? tellsOfExit(logs.run) : logs.build !== "" || logs.run !== "";
  if (isComplete) return logs;
  await pause(LAG_MS, undefined, { signal });
  return await read();
}

/**
 * Log lines as text, oldest first, the end of them. A line that was JSON, as all of the worker's are, comes back from
 * Railway taken apart into attributes: it is put together again.
 */
export function logText(lines: LogLine[]): string {
  const text = lines.toSorted((one, other) => Date.parse(one.timestamp) - Date.parse(other.timestamp)).map(lineOf);
  return storable(text.join("\n"));
}

function lineOf({ message, attributes }: LogLine): string {
  if (message.startsWith("{") || !attributes.some(({ key }) => key === "event")) return message;
  const entries = attributes.map(({ key, value }) => [key, valueOf(value)]);
  return JSON.stringify({ ...(message === "" ? {} : { message }), ...Object.fromEntries(entries) });
}

/** Values are JSON, and those that are no texts may be JSON within a text. */
function valueOf(text: string): unknown {
  const value = parsed(text);
  return typeof value === "string" ? parsed(value) : value;
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}
