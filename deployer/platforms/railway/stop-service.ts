import { PlatformError, type PlatformService } from "../platform.ts";
import type { Deployment, ServiceInstance } from "./answers.ts";
import { standingOf } from "./deployment-status.ts";
import { findServicesOf, type OwnService } from "./find-services.ts";
import type { RailwayApi } from "./railway-api.ts";
import type { StatusPoller } from "./status-poller.ts";

export interface StopContext {
  api: RailwayApi;
  poller: StatusPoller;
  instance: string;
  /** Time that a worker has for what it has begun. */
  drainSeconds: number;
}

/** Beside its drain time, for Railway to say so. */
const SLACK_SECONDS = 60;

/** Ends every deployment of the service, and waits until Railway says that they have ended. */
export async function stopService(service: PlatformService, context: StopContext, signal: AbortSignal): Promise<void> {
  for (const own of await find(service, context, signal)) await stopDeployments(own, context, signal);
}

/** Its worker drains first: deleting a service cuts it off. */
export async function removeService(
  service: PlatformService,
  context: StopContext,
  signal: AbortSignal,
): Promise<void> {
  for (const own of await find(service, context, signal)) {
    await stopDeployments(own, context, signal);
    await context.api.deleteService(own.serviceId, signal);
  }
}

/** One that only has the name is another's: for us there is none. */
async function find(service: PlatformService, context: StopContext, signal: AbortSignal): Promise<OwnService[]> {
  const { own } = await findServicesOf(service.serviceSchema, service.id, context, signal);
  return own;
}

/** What is built is cancelled, what runs is removed. */
export async function endDeployment(deployment: Deployment, api: RailwayApi, signal: AbortSignal): Promise<void> {
  const end = standingOf(deployment) === "under_way" ? api.cancelDeployment : api.removeDeployment;
  await end(deployment.id, signal);
}

async function stopDeployments(own: ServiceInstance, context: StopContext, signal: AbortSignal): Promise<void> {
  const { api } = context;
  const all = new Map([own.latestDeployment, ...own.activeDeployments].flatMap((one) => (one ? [[one.id, one]] : [])));
  const toEnd = [...all.values()].filter(mustEnd);
  for (const deployment of toEnd) {
    if (deployment.status !== "REMOVING") await endDeployment(deployment, api, signal);
  }
  for (const { id } of toEnd) await untilEnded(id, context, signal);
}

function mustEnd({ status }: Deployment): boolean {
  return !["REMOVED", "FAILED", "SKIPPED"].includes(status);
}

async function untilEnded(id: string, context: StopContext, signal: AbortSignal): Promise<void> {
  const deadline = performance.now() + (context.drainSeconds + SLACK_SECONDS) * 1000;
  try {
    for (;;) {
      const deployment = await context.poller.next(id, signal);
      if (deployment === undefined || !mustEnd(deployment)) return;
      if (performance.now() > deadline) {
        const message = `Railway deployment ${id} is still ${deployment.status}, though it was removed`;
        throw new PlatformError("transient", "deployment_not_ended", message);
      }
    }
  } finally {
    context.poller.forget(id);
  }
}
