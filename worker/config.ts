import { z } from "zod";
import { activityNetworks, activitySecret, yesOrNo } from "../host/activity-settings.ts";
import { cacheDirectory } from "../host/cache-directory.ts";
import { READ_ONCE } from "../supabase/functions/_shared/manifest.ts";
import { memoryLimitMb } from "./capacity.ts";
import { EXIT_CODES, WorkerExitError } from "./exit.ts";
import type { AddressSettings } from "./service/address-policy.ts";
import { type TemporalTarget, temporalTarget } from "./temporal-target.ts";

const environmentSchema = z.object({
  MANIFEST_PATH: z.string("must name the manifest, relative to the working directory").min(1),
  PORT: z.coerce.number().int().min(0).max(65_535).optional(),
  OSP_DRAIN_SECONDS: z.coerce.number().int().min(0).max(86_400).default(30),
  OSP_CONNECT_DEADLINE_SECONDS: z.coerce.number().int().min(0).max(86_400).default(180),
  OSP_LIMITED_WAIT_SECONDS: z.coerce.number().int().min(1).max(3600).default(600),
  OSP_MEMORY_MB: z.coerce.number().int().min(128).max(1_048_576).optional(),
  OSP_ACTIVITY_SECRET: activitySecret.optional(),
  OSP_ACTIVITY_SECRET_PREVIOUS: activitySecret.optional(),
  OSP_ACTIVITY_NETWORKS: activityNetworks.optional(),
  OSP_ACTIVITY_PLAIN_HTTP: yesOrNo.default("false"),
});

/** All that a worker is told from outside. */
export interface WorkerConfig {
  manifestPath: string;
  /** Serve /healthz and /readyz here; 0 is any free port. */
  port: number | undefined;
  /** How long activities in flight may take after SIGTERM before they are cancelled. */
  drainSeconds: number;
  connectDeadlineSeconds: number;
  /** The container's memory in MB: cache and slots are sized from it. */
  memoryMb: number;
  cacheDirectory: string;
  /** How long an activity with limits waits for its turn until it is scheduled anew; twice as long each time after that. */
  limitedWaitSeconds: number;
  temporal: TemporalTarget;
  endpoints: EndpointSettings;
}

/** How the endpoints of activities are called. */
export interface EndpointSettings extends AddressSettings {
  /** Each signs every call. */
  secrets: string[];
}

/** @throws {WorkerExitError} naming every variable to correct, not only the first */
export function parseConfig(environment: NodeJS.ProcessEnv): WorkerConfig {
  const filled = Object.fromEntries(
    Object.entries(environment).map(([name, value]) => [name, value?.trim()]).filter(([, value]) => value),
  );
  const parsed = environmentSchema.safeParse(filled, READ_ONCE);
  const temporal = temporalTarget(filled);
  const problems = [
    ...(parsed.error?.issues ?? []).map(({ path, message }) => `environment variable ${path.join(".")}: ${message}`),
    ...temporal.problems,
  ];
  if (!parsed.success || temporal.target === undefined) throw new WorkerExitError(EXIT_CODES.unusable, problems);
  const { MANIFEST_PATH, PORT, OSP_DRAIN_SECONDS, OSP_CONNECT_DEADLINE_SECONDS, OSP_MEMORY_MB, ...activities } =
    parsed.data;
  return {
    manifestPath: MANIFEST_PATH,
    port: PORT,
    drainSeconds: OSP_DRAIN_SECONDS,
    connectDeadlineSeconds: OSP_CONNECT_DEADLINE_SECONDS,
    memoryMb: memoryLimitMb(OSP_MEMORY_MB),
    cacheDirectory: cacheDirectory(environment),
    limitedWaitSeconds: activities.OSP_LIMITED_WAIT_SECONDS,
    temporal: temporal.target,
    endpoints: {
      secrets: [activities.OSP_ACTIVITY_SECRET, activities.OSP_ACTIVITY_SECRET_PREVIOUS].flatMap((secret) =>
        secret ?? []
      ),
      networks: activities.OSP_ACTIVITY_NETWORKS ?? [],
      allowsPlainHttp: activities.OSP_ACTIVITY_PLAIN_HTTP === "true",
    },
  };
}
