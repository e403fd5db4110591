import type { DeploymentStatus, ServiceInstance, World } from "./world.ts";

/** The statuses of an undisturbed deployment, after QUEUED. */
const USUAL: DeploymentStatus[] = ["BUILDING", "DEPLOYING", "SUCCESS"];

export interface Plans {
  /**
   * What the next `times` (1) deployments go through after QUEUED, in place of `USUAL`. A status that stands twice is
   * seen twice.
   *
   * @param service id or name; `*` for any
   */
  next(service: string, steps: DeploymentStatus[], times?: number): void;
  take(world: World, instance: ServiceInstance): DeploymentStatus[];
}

export function createPlans(): Plans {
  const planned: { service: string; steps: DeploymentStatus[]; times: number }[] = [];
  return {
    next: (service, steps, times = 1) => void planned.push({ service, steps, times }),
    take(world, { serviceId }) {
      const names = ["*", serviceId, world.services.get(serviceId)?.name];
      const plan = planned.find(({ service, times }) => times > 0 && names.includes(service));
      if (plan === undefined) return [...USUAL];
      plan.times--;
      return [...plan.steps];
    },
  };
}
