import { setTimeout as pause } from "node:timers/promises";
import { formatError } from "../../../supabase/functions/_shared/problems.ts";
import type { DeployRequest } from "../platform.ts";
import type { Service } from "./answers.ts";
import type { DeployContext } from "./deploy-context.ts";
import { desiredVariables, NOTHING_BEFORE } from "./desired-service.ts";
import { RailwayError } from "./errors.ts";
import { findServicesOf, foreignError } from "./find-services.ts";
import { serviceName } from "./service-name.ts";

export interface EnsuredService {
  id: string;
  /** As it is now; undefined: just made, with the variables of this request. */
  found: Service | undefined;
}

/** A service just made may take a moment to show. */
const LOOKS = 3;
const LOOK_MS = 2000;
const UNDO_MS = 10_000;

/**
 * The Railway service of the request: the one that we know, else the one with its name and our marker, else a new one.
 *
 * @throws {PlatformError} permanent, where the name belongs to somebody else
 */
export async function ensureService(
  request: DeployRequest,
  context: DeployContext,
  signal: AbortSignal,
): Promise<EnsuredService> {
  const { serviceSchema, known: { serviceId } } = request;
  if (serviceId !== undefined && serviceId !== serviceSchema) {
    const found = await context.api.service(serviceId, signal);
    if (found !== undefined) return checked({ id: serviceId, found }, request, context);
    context.report(`Railway service ${serviceId} is gone`);
  }
  const id = await find(request, context, signal);
  return id === undefined ? await create(request, context, signal) : await lookAt(id, request, context, signal);
}

async function lookAt(
  id: string,
  request: DeployRequest,
  context: DeployContext,
  signal: AbortSignal,
): Promise<EnsuredService> {
  return checked({ id, found: await context.api.service(id, signal) }, request, context);
}

function checked(service: EnsuredService, { serviceSchema }: DeployRequest, context: DeployContext): EnsuredService {
  const { instance } = context.settings;
  const { OSP_INSTANCE, OSP_SERVICE } = service.found?.variables ?? {};
  if (OSP_INSTANCE === instance && OSP_SERVICE === serviceSchema) return service;
  throw foreignError(serviceSchema, service.id, instance);
}

async function find(request: DeployRequest, { api, settings }: DeployContext, signal: AbortSignal) {
  const { serviceSchema, known } = request;
  const { instance } = settings;
  const { own: [service], foreign } = await findServicesOf(serviceSchema, known.serviceId, { api, instance }, signal);
  if (service === undefined && foreign) throw foreignError(serviceSchema, foreign.serviceId, instance);
  return service?.serviceId;
}

/**
 * Writes the service down.
 *
 * @throws {PlatformError} when the lease is lost. One that was just made is then removed: whoever goes on has made another,
 *   or makes one.
 */
export async function rememberService(
  { id, found }: EnsuredService,
  request: DeployRequest,
  { unfenced }: DeployContext,
): Promise<void> {
  try {
    await request.remember({ serviceId: id });
  } catch (error) {
    if (found !== undefined) throw error;
    const signal = AbortSignal.timeout(UNDO_MS);
    const deployments = await unfenced.deploymentsOf(id, signal).catch(() => undefined);
    if (deployments?.length === 0) await unfenced.deleteService(id, signal).catch(() => {});
    throw error;
  }
}

/** With its variables, the marker among them, in one step: it is never there without. */
async function create(request: DeployRequest, context: DeployContext, signal: AbortSignal): Promise<EnsuredService> {
  const name = serviceName(request.serviceSchema);
  try {
    const variables = desiredVariables(request, context.settings, NOTHING_BEFORE);
    const id = await context.api.createService(name, variables, signal);
    context.report(`made Railway service ${name} (${id})`);
    return { id, found: undefined };
  } catch (error) {
    signal.throwIfAborted();
    if (!mayExist(error)) throw error;
    const id = await findAfterTrouble(request, context, signal);
    if (id === undefined) throw error;
    context.report(`Railway service ${name} (${id}) exists, though making it ended in an error: ${formatError(error)}`);
    return await lookAt(id, request, context, signal);
  }
}

function mayExist(error: unknown): boolean {
  return error instanceof RailwayError && (error.isAmbiguous || error.code === "railway_name_taken");
}

async function findAfterTrouble(request: DeployRequest, context: DeployContext, signal: AbortSignal) {
  for (let look = 1; look <= LOOKS; look++) {
    if (look > 1) await pause(LOOK_MS, undefined, { signal });
    const id = await find(request, context, signal);
    if (id !== undefined) return id;
  }
  return undefined;
}
