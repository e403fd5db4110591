import type { DeployRequest, Idle, Lease, StopRequest } from "../../deployer/platforms/platform.ts";

/** A lease that is held. */
const heldLease: Lease = { confirm: () => Promise.resolve(), isOpen: () => Promise.resolve(true) };
/** Waits as told; nobody counts. */
export const idle: Idle = (waiting) => waiting;

/** What a request has besides what it is about: nothing is known yet, and everything goes well. */
export function requestDefaults() {
  return {
    known: { serviceId: undefined, deploymentId: undefined, rejectedDeploymentIds: [], mayBeDouble: true },
    lease: heldLease,
    idle,
    remember: () => Promise.resolve(),
    untilServing: () => Promise.resolve(),
    untilTemporalAnswers: () => Promise.resolve(),
  } satisfies Partial<DeployRequest>;
}

export function stopRequest(serviceSchema: string, changes: Partial<StopRequest> = {}): StopRequest {
  return { serviceSchema, id: serviceSchema, lease: heldLease, idle, ...changes };
}
