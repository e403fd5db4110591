import { moveTo } from "./lifecycle.ts";
import { environmentsAffectedBy, type Service, type World } from "./world.ts";

/** Ends all that runs of a service, at once, in each environment concerned; the service itself goes with its last one. */
export function removeService(world: World, service: Service, environmentId: string | null): void {
  const affected = environmentsAffectedBy(world, service.projectId, environmentId).map(({ id }) => id);
  const gone = world.instances.filter((each) => each.serviceId === service.id && affected.includes(each.environmentId));
  for (const deployment of gone.flatMap(({ deployments }) => deployments)) {
    moveTo(world, deployment, "REMOVED");
    deployment.plan = [];
    world.deployments.delete(deployment.id);
  }
  world.instances = world.instances.filter((each) => !gone.includes(each));
  if (!world.instances.some((each) => each.serviceId === service.id)) world.services.delete(service.id);
}
