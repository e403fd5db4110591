import { PlatformError } from "../platform.ts";
import type { ServiceInstance } from "./answers.ts";
import { marks } from "./desired-service.ts";
import type { RailwayApi } from "./railway-api.ts";
import { serviceName } from "./service-name.ts";

export interface OwnService extends ServiceInstance {
  serviceSchema: string;
}

/** Where services are looked for, and how ours are told. */
export interface OwnPlace {
  api: RailwayApi;
  /** Marker of this database's services. */
  instance: string;
}

/** Every service that carries our marker. */
export async function findOwnServices(place: OwnPlace, signal: AbortSignal): Promise<OwnService[]> {
  return await withMarker(await place.api.services(signal), place, signal);
}

export interface ServicesOfSchema {
  /** More than one is what a killed deployer and its successor have made. The one to use comes first. */
  own: OwnService[];
  /** Has the name, but not our marker. */
  foreign: ServiceInstance | undefined;
}

/** The services of one schema, by its name or by an id that we once wrote down. */
export async function findServicesOf(
  serviceSchema: string,
  knownId: string | undefined,
  place: OwnPlace,
  signal: AbortSignal,
): Promise<ServicesOfSchema> {
  const name = serviceName(serviceSchema);
  const isCandidate = (service: ServiceInstance) => service.serviceName === name || service.serviceId === knownId;
  const candidates = (await place.api.services(signal)).filter(isCandidate);
  const own = (await withMarker(candidates, place, signal)).filter((service) =>
    service.serviceSchema === serviceSchema
  );
  const rank = (service: OwnService) =>
    `${service.serviceId === knownId ? 0 : 1}${service.latestDeployment === null ? 1 : 0}${service.serviceId}`;
  return {
    own: own.toSorted((one, other) => (rank(one) < rank(other) ? -1 : 1)),
    foreign: candidates.find(({ serviceId }) => !own.some((service) => service.serviceId === serviceId)),
  };
}

export function foreignError(serviceSchema: string, serviceId: string, instance: string): PlatformError {
  const wanted = Object.entries(marks(instance, serviceSchema)).map(([name, value]) => `${name}=${value}`).join(
    " and ",
  );
  return new PlatformError(
    "permanent",
    "railway_foreign_service",
    `Railway service ${
      serviceName(serviceSchema)
    } (${serviceId}) is not this database's: it lacks the variables ${wanted}. ` +
      "It is left alone; rename or delete it, or give it these variables to hand it over, then deploy again",
  );
}

async function withMarker(
  services: ServiceInstance[],
  { api, instance }: OwnPlace,
  signal: AbortSignal,
): Promise<OwnService[]> {
  const variables = await api.variablesOf(services.map(({ serviceId }) => serviceId), signal);
  return services.flatMap((service) => {
    const { OSP_INSTANCE, OSP_SERVICE } = variables.get(service.serviceId) ?? {};
    return OSP_INSTANCE === instance && typeof OSP_SERVICE === "string"
      ? [{ ...service, serviceSchema: OSP_SERVICE }]
      : [];
  });
}
