import { manifestPath } from "../../../supabase/functions/_shared/manifest.ts";
import type { DeployRequest } from "../platform.ts";
import type { Service } from "./answers.ts";
import type { Variables } from "./railway-api.ts";

/** What every Railway service of ours is like. */
export interface ServiceSettings {
  /** Marker of this database's services. */
  instance: string;
  /** Temporal's variables and the operator's own. */
  variables: Variables;
  /** Time that a worker has for what it has begun. */
  drainSeconds: number;
  /** How long the old worker goes on beside the new one that is ready. */
  overlapSeconds: number;
  /** How long a new worker may take until it polls. */
  healthcheckSeconds: number;
  replicas: number;
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
  { serviceSchema, deploymentId, revision }: DeployRequest,
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
  };
}

export function desiredSettings(settings: ServiceSettings) {
  return {
    // As the Dockerfile's CMD; named here as well, so that one set by hand does not stay.
    startCommand: "node worker/launch-worker.ts",
    restartPolicyType: settings.restartPolicy,
    restartPolicyMaxRetries: settings.restartRetries,
    numReplicas: settings.replicas,
    drainingSeconds: settings.drainSeconds + DRAIN_MARGIN_SECONDS,
    overlapSeconds: settings.overlapSeconds,
    // The old container serves until the new one answers here that it polls.
    healthcheckPath: "/readyz",
    healthcheckTimeout: settings.healthcheckSeconds,
    sleepApplication: false,
  };
}

export type DesiredSettings = ReturnType<typeof desiredSettings>;

/** The settings of a service that differ from what is desired; undefined: none does. Pure. */
export function differingSettings(
  desired: DesiredSettings,
  actual: Service["serviceInstance"],
): Partial<DesiredSettings> | undefined {
  const found: Record<string, unknown> = {
    ...actual,
    numReplicas: actual.numReplicas ?? 1,
    sleepApplication: actual.sleepApplication ?? false,
  };
  const differing = Object.entries(desired).filter(([name, value]) => found[name] !== value);
  return differing.length === 0 ? undefined : Object.fromEntries(differing);
}

/** Whether a service has all these variables. Railway adds some of its own. Pure. */
export function hasVariables(found: Record<string, string | null>, desired: Variables): boolean {
  return Object.entries(desired).every(([name, value]) => found[name] === value);
}
