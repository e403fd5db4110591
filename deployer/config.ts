import { hostname } from "node:os";
import { resolve } from "node:path";
import { z } from "zod";
import { formatProblems, problemsOf } from "../supabase/functions/_shared/problems.ts";

const seconds = (least: number) => z.coerce.number("must be a number of seconds").min(least);

const stateDirectory = z.string().default(".osp").transform((path) => resolve(path));
const drainSeconds = seconds(0).default(30);

const environmentSchema = z.object({
  /** Postgres, as a role that is a member of osp_deployer. */
  DATABASE_URL: z.string("is not set: the Postgres URL of a role that is a member of osp_deployer").regex(
    /^postgres(ql)?:\/\//,
    "must begin with postgresql://",
  ),
  OSP_PLATFORM: z.enum(["local"], "must be local"),
  /** `temporal`: deployed means that Temporal shows the worker polling. `platform`: it means that the platform says so. */
  OSP_READINESS: z.enum(["temporal", "platform"]).default("temporal"),
  OSP_STATE_DIR: stateDirectory,
  /** Where the Edge Functions are, such as https://<ref>.supabase.co/functions/v1; unset: nothing is rung from here. */
  FUNCTIONS_URL: z.url("must be a URL").optional(),
  OSP_WEBHOOK_SECRET: z.string().min(16, "must have at least 16 characters").optional(),
  OSP_CONCURRENCY: z.coerce.number().int().min(1).max(100).default(4),
  OSP_POLL_SECONDS: seconds(0.05).default(2),
  OSP_LEASE_SECONDS: seconds(1).default(10),
  OSP_RENEW_SECONDS: seconds(0.1).default(3),
  OSP_MAX_ATTEMPTS: z.coerce.number().int().min(1).max(100).default(3),
  OSP_RETRY_SECONDS: seconds(0).default(5),
  OSP_RETRY_CAP_SECONDS: seconds(0).default(300),
  OSP_DEFER_SECONDS: seconds(0).default(5),
  OSP_DEFER_CAP_SECONDS: seconds(0).default(60),
  OSP_DEPLOY_TIMEOUT_SECONDS: seconds(1).default(90),
  OSP_READINESS_TIMEOUT_SECONDS: seconds(1).default(60),
  OSP_DRAIN_SECONDS: drainSeconds,
  OSP_SWEEP_SECONDS: seconds(0.1).default(5),
  OSP_RECONCILE_SECONDS: seconds(0.1).default(60),
  OSP_SHUTDOWN_SECONDS: seconds(0).default(20),
}).refine((settings) => settings.OSP_RENEW_SECONDS < settings.OSP_LEASE_SECONDS, {
  path: ["OSP_RENEW_SECONDS"],
  message: "must be less than OSP_LEASE_SECONDS",
}).refine((settings) => (settings.FUNCTIONS_URL === undefined) === (settings.OSP_WEBHOOK_SECRET === undefined), {
  path: ["FUNCTIONS_URL"],
  message: "and OSP_WEBHOOK_SECRET belong together: set both or neither",
});

/** What `--stop-workers` needs: no database and no platform. */
const stoppingSchema = z.object({ OSP_STATE_DIR: stateDirectory, OSP_DRAIN_SECONDS: drainSeconds });

export type DeployerConfig = z.infer<typeof environmentSchema> & {
  /** Who we are in leases, attempts and logs: host and process. */
  owner: string;
  /** Temporal's own variables, handed to workers as they are. */
  temporal: Record<string, string>;
};

/**
 * The deployer's settings; blank means not set.
 *
 * @throws {Error} naming every bad variable at once
 */
export function parseConfig(environment: NodeJS.ProcessEnv): DeployerConfig {
  const temporal = Object.entries(given(environment)).flatMap(([name, value]) =>
    name.startsWith("TEMPORAL_") && value !== undefined ? [[name, value] as const] : []
  );
  return {
    ...parse(environmentSchema, environment),
    owner: `${hostname()}:${process.pid}`,
    temporal: Object.fromEntries(temporal),
  };
}

/** @throws {Error} naming every bad variable at once */
export function parseStoppingConfig(environment: NodeJS.ProcessEnv): z.infer<typeof stoppingSchema> {
  return parse(stoppingSchema, environment);
}

function given(environment: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  return Object.fromEntries(Object.entries(environment).filter(([, value]) => value?.trim()));
}

function parse<Schema extends z.ZodType>(schema: Schema, environment: NodeJS.ProcessEnv): z.infer<Schema> {
  const parsed = schema.safeParse(given(environment));
  if (parsed.success) return parsed.data;
  // Without the values: an URL holds a password.
  throw new Error(`Cannot start the deployer: ${formatProblems(problemsOf(parsed.error, undefined))}`);
}
