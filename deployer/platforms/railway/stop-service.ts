import { type Idle, PlatformError, type StopRequest } from "../platform.ts";
import { endDeployment, mustEnd } from "./end-deployment.ts";
import { findServicesOf, type OwnService } from "./find-services.ts";
import type { RailwayApi } from "./railway-api.ts";
import type { StatusPoller } from "./status-poller.ts";

export interface StopContext {
  /** Its changes are made only while the lease is held. */
  api: RailwayApi;
  poller: StatusPoller;
  instance: string;
  /** Time that a worker has for what it has begun. */
  drainSeconds: number;
  /** @throws {PlatformError} when what is done to a service would reach other environments */
  checkEnvironments: (signal: AbortSignal) => Promise<void>;
}

/** Beside its drain time, for Railway to say so. */
const SLACK_SECONDS = 60;
/** A worker that has nothing to do ends in a moment. */
const FIRST_LOOK_SECONDS = 5;
/** What begins while we look, an upload that was on its way, is ended as well. */
const MOST_ROUNDS = 5;

/** Ends every deployment of the service, and waits until Railway says that they have ended. */
export async function stopService(request: StopRequest, context: StopContext, signal: AbortSignal): Promise<void> {
  for (const own of await find(request, context, signal)) {
    await stopDeployments(own.serviceId, request.idle, context, signal);
  }
}

/** Its worker drains first: deleting a service cuts it off. */
export async function removeService(request: StopRequest, context: StopContext, signal: AbortSignal): Promise<void> {
  for (const own of await find(request, context, signal)) await removeOne(own.serviceId, request.idle, context, signal);
}

/** The same for one Railway service that is known to be ours. */
export async function removeOne(
  serviceId: string,
  idle: Idle,
  context: StopContext,
  signal: AbortSignal,
): Promise<void> {
  await stopDeployments(serviceId, idle, context, signal);
  await context.checkEnvironments(signal);
  await context.api.deleteService(serviceId, signal);
}

/** One that only has the name is another's: for us there is none. */
async function find(request: StopRequest, context: StopContext, signal: AbortSignal): Promise<OwnService[]> {
  const { own } = await findServicesOf(request.serviceSchema, request.id, context, signal);
  return own;
}

/** Done when a listing shows nothing that is up or may come up. */
async function stopDeployments(
  serviceId: string,
  idle: Idle,
  context: StopContext,
  signal: AbortSignal,
): Promise<void> {
  const { api } = context;
  for (let round = 1; round <= MOST_ROUNDS; round++) {
    const toEnd = (await api.deploymentsOf(serviceId, signal)).filter(mustEnd);
    if (toEnd.length === 0) return;
    for (const deployment of toEnd) await endDeployment(deployment, api, signal);
    for (const { id } of toEnd) await untilEnded(id, idle, context, signal);
  }
  const message =
    `Railway service ${serviceId} begins new deployments as fast as they are ended: somebody else deploys to it`;
  throw new PlatformError("transient", "deployment_not_ended", message);
}

async function untilEnded(
  id: string,
  idle: Idle,
  { poller, drainSeconds }: StopContext,
  signal: AbortSignal,
): Promise<void> {
  const deadline = performance.now() + (drainSeconds + SLACK_SECONDS) * 1000;
  const followed = poller.follow(id, FIRST_LOOK_SECONDS);
  try {
    for (;;) {
      const deployment = await idle(followed.next(signal));
      if (deployment === undefined || !mustEnd(deployment)) return;
      if (performance.now() > deadline) {
        const message = `Railway deployment ${id} is still ${deployment.status}, though it was removed`;
        throw new PlatformError("transient", "deployment_not_ended", message);
      }
    }
  } finally {
    followed.end();
  }
}
