import type { Deployment, ServiceInstance } from "./answers.ts";
import { runningReplicas, standingOf } from "./deployment-status.ts";

/** How a service is, as far as Railway can see it: whether its worker polls, only Temporal knows. */
export type Health = "healthy" | "deploying" | "degraded" | "failed" | "stopped";

export interface ServiceHealth {
  serviceSchema: string;
  serviceId: string;
  health: Health;
  /** The deployment that serves; undefined: none does. */
  deploymentId: string | undefined;
  replicas: { wanted: number; running: number };
}

/** Pure. */
export function healthOf(serviceSchema: string, service: ServiceInstance): ServiceHealth {
  const { serviceId, latestDeployment: latest, activeDeployments } = service;
  const serving = activeDeployments.find((deployment) => standingOf(deployment) === "running");
  const replicas = { wanted: service.numReplicas ?? 1, running: serving === undefined ? 0 : runningReplicas(serving) };
  const health = serving === undefined
    ? withoutServing(latest)
    : replicas.running >= replicas.wanted
    ? "healthy"
    : "degraded";
  return { serviceSchema, serviceId, health, deploymentId: serving?.id, replicas };
}

function withoutServing(latest: Deployment | null): Health {
  const standing = latest === null ? "ended" : standingOf(latest);
  if (standing === "under_way") return "deploying";
  return standing === "failed" ? "failed" : "stopped";
}
