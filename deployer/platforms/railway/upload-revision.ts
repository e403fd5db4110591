import { setTimeout as pause } from "node:timers/promises";
import { formatError } from "../../../supabase/functions/_shared/problems.ts";
import type { AbortCause } from "../../outcome.ts";
import type { DeployRequest } from "../platform.ts";
import type { Deployment } from "./answers.ts";
import type { Begun, DeployContext } from "./deploy-context.ts";
import { isAlive } from "./deployment-status.ts";
import {
  desiredVariables,
  hasVariables,
  NOTHING_BEFORE,
  replicasOf,
  type ServiceSettings,
  settingsToSet,
} from "./desired-service.ts";
import type { EnsuredService } from "./ensure-service.ts";
import { RailwayError } from "./errors.ts";
import { stageImage } from "./worker-image.ts";

/** What an upload began, as far as we know. */
export type Upload = Omit<Begun, "followed">;

/**
 * The deployment that an earlier attempt at this registry row began and that may still come to run, or does. It has the
 * variables that we would set now, is not the one that they say was there before, and was not found unfit already. Pure.
 */
export function findBegun(
  request: DeployRequest,
  { found }: EnsuredService,
  settings: ServiceSettings,
): Upload | undefined {
  const latest = found?.serviceInstance.latestDeployment;
  const previous = found?.variables["OSP_PREVIOUS_DEPLOYMENT"];
  if (!found || !latest || typeof previous !== "string" || !isAlive(latest)) return undefined;
  if (!hasVariables(found.variables, desiredVariables(request, settings, previous))) return undefined;
  const { deploymentId, rejectedDeploymentIds } = request.known;
  if (rejectedDeploymentIds.includes(latest.id)) return undefined;
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
): Promise<Upload> {
  const { api, settings, scratch } = context;
  const { id, found } = service;
  const previous = found?.serviceInstance.latestDeployment?.id ?? NOTHING_BEFORE;
  // A build takes minutes, and its worker could not serve.
  await request.untilTemporalAnswers(signal);
  const replicas = replicasOf(request, settings.replicas, found?.variables);
  // Before the variables: from them the next attempt knows that the replicas of an earlier row are to go.
  const toSet = settingsToSet({ ...settings, replicas }, found?.serviceInstance);
  if (toSet !== undefined) await api.setSettings(id, toSet, signal);
  // They differ in any case: each upload has another one before it.
  if (found !== undefined) await api.setVariables(id, desiredVariables(request, settings, previous), signal);
  const image = await stageImage(request.directory, scratch);
  try {
    return await upload({ id, previous, isNew: found === undefined }, image.path, request, context, signal);
  } finally {
    await image.remove();
  }
}

interface Target {
  id: string;
  /** Its newest deployment before. */
  previous: string;
  isNew: boolean;
}

/** One just made may be hidden from an upload for a minute. */
const TRIES_OF_NEW = 4;
const HIDDEN_MS = 5000;

async function upload(
  target: Target,
  directory: string,
  request: DeployRequest,
  context: DeployContext,
  signal: AbortSignal,
): Promise<Upload> {
  const message = `osp ${request.serviceSchema} revision ${request.revision}`;
  for (let tries = 1;; tries++) {
    signal.throwIfAborted();
    try {
      const id = await context.api.upload(target.id, directory, message, uploadSignal(signal));
      return { id, isCertain: true };
    } catch (error) {
      if (!(error instanceof RailwayError)) throw error;
      if (isShutdown(signal)) throw signal.reason;
      if (error.isAmbiguous) return await findAfterTrouble(target, error, context);
      const mayShow = error.code === "railway_service_missing" && target.isNew && tries < TRIES_OF_NEW;
      if (!mayShow) throw error;
      await pause(HIDDEN_MS, undefined, { signal });
    }
  }
}

/** A deployer that is to end hands back within 5 s. */
const LAST_MS = 4000;

function isShutdown({ aborted, reason }: AbortSignal): boolean {
  return aborted && reason === ("shutdown" satisfies AbortCause);
}

/**
 * An upload is not cut off when a newer revision takes over or the lease is lost: what it began must be known, to be ended.
 * Only a deployer that is to end gives it a few seconds; its successor finds what came of it.
 */
function uploadSignal(signal: AbortSignal): AbortSignal {
  const cut = new AbortController();
  const onAbort = () => {
    if (isShutdown(signal)) setTimeout(() => cut.abort(signal.reason), LAST_MS);
  };
  if (signal.aborted) onAbort();
  else signal.addEventListener("abort", onAbort, { once: true });
  return cut.signal;
}

const LOOKS = 3;
const LOOK_MS = 2000;

/** The upload may have arrived, or may be about to: then its deployment is the newest one. */
async function findAfterTrouble(target: Target, error: RailwayError, context: DeployContext): Promise<Upload> {
  const { api, report } = context;
  for (let look = 1; look <= LOOKS; look++) {
    const newest: Deployment | undefined = (await api.deploymentsOf(target.id))[0];
    if (newest !== undefined && newest.id !== target.previous && isAlive(newest)) {
      report(`Railway deployment ${newest.id} has begun, though the upload ended in an error: ${formatError(error)}`);
      return { id: newest.id, isCertain: false };
    }
    if (look < LOOKS) await pause(LOOK_MS);
  }
  throw error;
}
