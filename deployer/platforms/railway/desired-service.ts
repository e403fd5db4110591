import { z } from "zod";
import { manifestPath } from "../../../supabase/functions/_shared/manifest.ts";
import type { DeployRequest } from "../platform.ts";
import type { Deployment, Service } from "./answers.ts";
import type { Variables } from "./railway-api.ts";

/** What every Railway service of ours is like. */
export interface ServiceSettings {
  /** Marker of this database's services. */
  instance: string;
  /** Temporal's variables, those of activities and the operator's own. */
  variables: Variables;
  /** Time that a worker has for what it has begun. */
  drainSeconds: number;
  /** How long the old worker goes on beside the new one that is ready. */
  overlapSeconds: number;
  /** How long a new worker may take until it polls. */
  healthcheckSeconds: number;
  /** Containers of the service; undefined: as many as somebody set in Railway, else one. */
  replicas: number | undefined;
  restartPolicy: "ON_FAILURE" | "ALWAYS";
  restartRetries: number;
}

/** The worker gives up 5 s after its drain time by itself. */
const DRAIN_MARGIN_SECONDS = 10;
const PORT = "8080";
export const NOTHING_BEFORE = "none";

/** By these a service is ours, and this schema's. */
export function marks(instance: string, serviceSchema: string): Variables {
  return { OSP_INSTANCE: instance, OSP_SERVICE: serviceSchema };
}

/**
 * All variables of a service, for one upload. `OSP_DEPLOYMENT` and `OSP_PREVIOUS_DEPLOYMENT` tell whoever takes over
 * whether the newest deployment is the one that this registry row asked for: it is, unless it is the one from before.
 */
export function desiredVariables(
  { serviceSchema, deploymentId, revision, manifest }: DeployRequest,
  settings: ServiceSettings,
  previousDeployment: string,
): Variables {
  return {
    ...settings.variables,
    ...marks(settings.instance, serviceSchema),
    MANIFEST_PATH: manifestPath(serviceSchema),
    PORT,
    OSP_DRAIN_SECONDS: String(settings.drainSeconds),
    RAILWAY_DEPLOYMENT_DRAINING_SECONDS: String(settings.drainSeconds + DRAIN_MARGIN_SECONDS),
    RAILWAY_DEPLOYMENT_OVERLAP_SECONDS: String(settings.overlapSeconds),
    RAILWAY_HEALTHCHECK_TIMEOUT_SEC: String(settings.healthcheckSeconds),
    OSP_REVISION: String(revision),
    OSP_DEPLOYMENT: deploymentId,
    OSP_PREVIOUS_DEPLOYMENT: previousDeployment,
    [REPLICAS_OF_ROW]: String(manifest.options.replicas ?? "none"),
  };
}

/** How many replicas the service's row asked for, `none` where it does not: so that they go when the row asks no more. */
const REPLICAS_OF_ROW = "OSP_REPLICAS";

/**
 * Containers of one revision: as its row says, else as the operator does. Undefined: nobody says, so that what somebody set
 * in Railway stays; but not what an earlier revision's row had set. Pure.
 *
 * @param variables of the service as it is; undefined: it was just made
 */
export function replicasOf(
  { manifest }: Pick<DeployRequest, "manifest">,
  ofOperator: number | undefined,
  variables: Record<string, string | null> | undefined,
): number | undefined {
  const wasOfRow = /^\d+$/.test(variables?.[REPLICAS_OF_ROW] ?? "");
  return manifest.options.replicas ?? ofOperator ?? (wasOfRow ? 1 : undefined);
}

export function desiredSettings(settings: ServiceSettings) {
  return {
    sleepApplication: false,
    // As the Dockerfile's CMD; named here as well, so that one set by hand does not stay.
    startCommand: "node worker/launch-worker.ts",
    restartPolicyType: settings.restartPolicy,
    restartPolicyMaxRetries: settings.restartRetries,
    drainingSeconds: settings.drainSeconds + DRAIN_MARGIN_SECONDS,
    overlapSeconds: settings.overlapSeconds,
    // The old container serves until the new one answers here that it polls.
    healthcheckPath: "/readyz",
    healthcheckTimeout: settings.healthcheckSeconds,
  };
}

/** Containers by region. */
export type Layout = Record<string, { numReplicas: number }>;

const layoutSchema = z.object({
  serviceManifest: z.object({
    deploy: z.object({ multiRegionConfig: z.record(z.string(), z.object({ numReplicas: z.int().min(0) })) }),
  }),
});

/** Where a deployment's containers are; a service tells it in no other place. Undefined: it does not say. Pure. */
export function layoutOf(deployment: Deployment | null | undefined): Layout | undefined {
  const parsed = layoutSchema.safeParse(deployment?.meta);
  return parsed.success ? parsed.data.serviceManifest.deploy.multiRegionConfig : undefined;
}

export function replicasIn(layout: Layout | undefined): number | undefined {
  return layout && Object.values(layout).reduce((sum, { numReplicas }) => sum + numReplicas, 0);
}

/**
 * What is to be set up of a service; undefined: it is as it should be. All settings or none: one that is left out while others
 * are set may fall back (replicas by region do). Pure.
 *
 * @param actual undefined: the service was just made
 */
export function settingsToSet(
  settings: ServiceSettings,
  actual: Service["serviceInstance"] | undefined,
): Record<string, unknown> | undefined {
  const desired = desiredSettings(settings);
  const layout = layoutOf(actual?.latestDeployment);
  const replicas = settings.replicas ?? replicasIn(layout) ?? actual?.numReplicas ?? 1;
  const found: Record<string, unknown> = { ...actual, sleepApplication: actual?.sleepApplication ?? false };
  const isSetUp = actual !== undefined && Object.entries(desired).every(([name, value]) => found[name] === value) &&
    replicas === (replicasIn(layout) ?? actual.numReplicas ?? 1);
  return isSetUp ? undefined : { ...desired, ...withReplicas(replicas, layout) };
}

/** By region where there is one: that counts before the bare number. */
function withReplicas(replicas: number, layout: Layout | undefined): Record<string, unknown> {
  if (layout === undefined || Object.keys(layout).length === 0) return { numReplicas: replicas };
  if (replicasIn(layout) === replicas) return { multiRegionConfig: layout };
  const [first = ""] = Object.keys(layout);
  return { multiRegionConfig: { [first]: { numReplicas: replicas } } };
}

/** Whether a service has all these variables. Railway adds some of its own. Pure. */
export function hasVariables(found: Record<string, string | null>, desired: Variables): boolean {
  return Object.entries(desired).every(([name, value]) => found[name] === value);
}
