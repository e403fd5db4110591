import { formatError } from "../../../supabase/functions/_shared/problems.ts";
import type { DeployRequest } from "../platform.ts";
import type { AbortCause } from "../../outcome.ts";
import type { Begun, DeployContext } from "./deploy-context.ts";
import { isAlive } from "./deployment-status.ts";
import {
  desiredSettings,
  desiredVariables,
  differingSettings,
  hasVariables,
  NOTHING_BEFORE,
  type ServiceSettings,
} from "./desired-service.ts";
import type { EnsuredService } from "./ensure-service.ts";
import { RailwayError } from "./errors.ts";
import { stageImage } from "./worker-image.ts";

/**
 * The deployment that an earlier attempt at this registry row began and that may still come to run, or does. It has the
 * variables that we would set now, and is not the one that they say was there before. Pure.
 */
export function findBegun(
  request: DeployRequest,
  { found }: EnsuredService,
  settings: ServiceSettings,
): Begun | undefined {
  const latest = found?.serviceInstance.latestDeployment;
  const previous = found?.variables["OSP_PREVIOUS_DEPLOYMENT"];
  if (!found || !latest || typeof previous !== "string" || !isAlive(latest)) return undefined;
  if (!hasVariables(found.variables, desiredVariables(request, settings, previous))) return undefined;
  const { deploymentId } = request.known;
  if (latest.id === deploymentId) return { id: latest.id, isCertain: true };
  // The upload with these variables is known, and has been replaced; or none came after the one from before.
  const isKnown = deploymentId !== undefined && deploymentId !== previous;
  return isKnown || latest.id === previous ? undefined : { id: latest.id, isCertain: false };
}

/** Sets the service up and uploads the revision to it. */
export async function uploadRevision(
  request: DeployRequest,
  service: EnsuredService,
  context: DeployContext,
  signal: AbortSignal,
): Promise<Begun> {
  const { api, settings } = context;
  const { id, found } = service;
  const previous = found?.serviceInstance.latestDeployment?.id ?? NOTHING_BEFORE;
  const variables = desiredVariables(request, settings, previous);
  await request.remember({});
  // They differ in any case: each upload has another one before it.
  if (found !== undefined) await api.setVariables(id, variables, signal);
  const desired = desiredSettings(settings);
  const differing = found === undefined ? desired : differingSettings(desired, found.serviceInstance);
  if (differing !== undefined) await api.setSettings(id, differing, signal);
  const image = await stageImage(request.directory);
  try {
    await request.remember({});
    const message = `osp ${request.serviceSchema} revision ${request.revision}`;
    return { id: await api.upload(id, image.directory, message, exceptLeaseLost(signal)), isCertain: true };
  } catch (error) {
    signal.throwIfAborted();
    if (!(error instanceof RailwayError) || !error.isAmbiguous) throw error;
    return await findAfterTrouble(id, previous, error, context, signal);
  } finally {
    await image.remove();
  }
}

/**
 * An upload in progress is not cut off when the lease is lost: we must know what it began to be able to end it. Whatever
 * else ends us leaves it to whoever comes next.
 */
function exceptLeaseLost(signal: AbortSignal): AbortSignal {
  const derived = new AbortController();
  const onAbort = () => {
    const cause: AbortCause = signal.reason;
    if (cause !== "lease_lost") derived.abort(cause);
  };
  signal.addEventListener("abort", onAbort, { once: true });
  return derived.signal;
}

/** The upload may have arrived: then its deployment is the newest one. */
async function findAfterTrouble(
  serviceId: string,
  previous: string,
  error: RailwayError,
  { api, report }: DeployContext,
  signal: AbortSignal,
): Promise<Begun> {
  const [newest] = await api.deploymentsOf(serviceId, signal);
  if (newest === undefined || newest.id === previous || !isAlive(newest)) throw error;
  report(`Railway deployment ${newest.id} has begun, though the upload ended in an error: ${formatError(error)}`);
  return { id: newest.id, isCertain: false };
}
