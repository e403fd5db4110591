import { hostname } from "node:os";
import { resolve } from "node:path";
import { z } from "zod";
import { ACTIVITY_SETTINGS, activityNetworks, activitySecret, yesOrNo } from "../host/activity-settings.ts";
import { formatProblems, type Problem, problemsOf } from "../supabase/functions/_shared/problems.ts";
import { StartError } from "./start-error.ts";

const seconds = (least: number) => z.coerce.number("must be a number of seconds").min(least);

const wholeSeconds = (least: number) => z.coerce.number("must be a number of seconds").int().min(least);

/** A JSON object of texts: `{"LOG_LEVEL": "debug"}`. Its values are secret. */
const variablesSchema = z.string().transform((text, context) => {
  try {
    const variables = z.record(z.string().regex(/^[A-Za-z_][A-Za-z0-9_]*$/), z.string()).parse(JSON.parse(text));
    const ours = Object.keys(variables).filter((name) => /^(OSP_.*|RAILWAY_.*|PORT|MANIFEST_PATH)$/.test(name));
    if (ours.length > 0) context.addIssue(`must not hold ${ours.join(", ")}: the deployer sets them`);
    return variables;
  } catch {
    // Without what was wrong: that would show a value.
    context.addIssue('must be a JSON object of names and texts, such as {"LOG_LEVEL": "debug"}');
    return z.NEVER;
  }
});

function hasCredentials(url: string): boolean {
  const parsed = URL.parse(url);
  return parsed !== null && (parsed.username !== "" || parsed.password !== "");
}

const stateDirectory = z.string().default(".osp").transform((path) => resolve(path));
/** Workers and Railway take whole seconds alone. */
const drainSeconds = wholeSeconds(0).default(30);

const environmentSchema = z.object({
  /** Postgres, as a role that is a member of osp_deployer. */
  DATABASE_URL: z.string("is not set: the Postgres URL of a role that is a member of osp_deployer").regex(
    /^postgres(ql)?:\/\//,
    "must begin with postgresql://",
  ).refine(
    (url) => URL.canParse(url),
    "is no URL: a character such as / # ? @ : in the password must be percent-encoded",
  ),
  OSP_PLATFORM: z.enum(["local", "railway"], "must be local or railway"),
  /** `temporal`: deployed means that Temporal shows the worker polling. `platform`: it means that the platform says so. */
  OSP_READINESS: z.enum(["temporal", "platform"]).default("temporal"),
  OSP_STATE_DIR: stateDirectory,
  /** Where the Edge Functions are, such as https://<ref>.supabase.co/functions/v1; unset: nothing is rung from here. */
  FUNCTIONS_URL: z.url({ protocol: /^https?$/, error: "must be an http or https URL" })
    // It is told in errors, and fetch takes none with a password.
    .refine((url) => !hasCredentials(url), "must be a URL without user and password: OSP_WEBHOOK_SECRET is the secret")
    .optional(),
  OSP_WEBHOOK_SECRET: z.string().min(16, "must have at least 16 characters").optional(),
  /** Where services' own code is kept, such as https://<ref>.supabase.co; unset: services that have some wait. */
  SUPABASE_URL: z.url({ protocol: /^https?$/, error: "must be an http or https URL" })
    .refine((url) => !hasCredentials(url), "must be a URL without user and password: SUPABASE_SECRET_KEY is the secret")
    .optional(),
  SUPABASE_SECRET_KEY: z.string().trim().regex(/^\S+$/, "must be one word: a line break or a blank got into it")
    .optional(),
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
  /** How many open workflows of each type are replayed with a revision's own code before it is deployed; 0: none. */
  OSP_REPLAY_GATE_WORKFLOWS: z.coerce.number().int().min(0).max(1000).default(20),
  OSP_DRAIN_SECONDS: drainSeconds,
  OSP_SWEEP_SECONDS: seconds(0.1).default(5),
  OSP_RECONCILE_SECONDS: seconds(0.1).default(60),
  /** How often what the platform lists is compared with the registry; unset: 600 on railway, where it costs requests, 10 on local. */
  OSP_PLATFORM_RECONCILE_SECONDS: seconds(0.1).optional(),
  /** How often Temporal is asked which workers live. */
  OSP_HEALTH_SECONDS: seconds(0.1).default(60),
  OSP_SHUTDOWN_SECONDS: seconds(0).default(20),
  /** How workers call the endpoints of activities: handed to them as they are. */
  OSP_ACTIVITY_SECRET: activitySecret.optional(),
  OSP_ACTIVITY_SECRET_PREVIOUS: activitySecret.optional(),
  OSP_ACTIVITY_NETWORKS: activityNetworks.optional(),
  OSP_ACTIVITY_PLAIN_HTTP: yesOrNo.default("false"),
  /** The native Railway CLI; unset: `railway` on PATH. */
  RAILWAY_CLI_PATH: z.string().optional(),
  RAILWAY_API_TOKEN: z.string().trim().regex(/^\S+$/, "must be one word: a line break or a blank got into it")
    .optional(),
  OSP_RAILWAY_PROJECT: z.uuid("must be the id of the project, as in its URL").optional(),
  OSP_RAILWAY_ENVIRONMENT: z.uuid("must be the id of the environment, as in its URL").optional(),
  OSP_RAILWAY_VARIABLES: variablesSchema.optional(),
  OSP_RAILWAY_ALLOW_ENVIRONMENTS: yesOrNo.default("false")
    .transform((value) => value === "true"),
  OSP_RAILWAY_REQUESTS_PER_HOUR: z.coerce.number().int().min(10).default(1000),
  OSP_RAILWAY_REQUESTS_PER_SECOND: z.coerce.number("must be a number").min(0.1).default(10),
  OSP_RAILWAY_DEPLOY_TIMEOUT_SECONDS: seconds(1).default(1200),
  OSP_RAILWAY_POLL_SECONDS: seconds(0.05).default(20),
  OSP_RAILWAY_POLL_CAP_SECONDS: seconds(0.05).default(30),
  OSP_RAILWAY_SETTLE_SECONDS: seconds(0).default(15),
  OSP_RAILWAY_HEALTHCHECK_SECONDS: wholeSeconds(1).default(300),
  OSP_RAILWAY_OVERLAP_SECONDS: wholeSeconds(0).default(10),
  OSP_RAILWAY_REPLICAS: z.coerce.number().int().min(1).max(50).optional(),
  OSP_RAILWAY_RESTART_POLICY: z.enum(["ON_FAILURE", "ALWAYS"], "must be ON_FAILURE or ALWAYS").default("ON_FAILURE"),
  OSP_RAILWAY_RESTART_RETRIES: z.coerce.number().int().min(0).max(1000).default(10),
  OSP_RAILWAY_CALL_TIMEOUT_SECONDS: seconds(1).default(300),
  OSP_RAILWAY_PROBE_SECONDS: seconds(0.1).default(60),
}).refine((settings) => settings.OSP_RENEW_SECONDS < settings.OSP_LEASE_SECONDS, {
  path: ["OSP_RENEW_SECONDS"],
  message: "must be less than OSP_LEASE_SECONDS",
}).refine((settings) => (settings.FUNCTIONS_URL === undefined) === (settings.OSP_WEBHOOK_SECRET === undefined), {
  path: ["FUNCTIONS_URL"],
  message: "and OSP_WEBHOOK_SECRET belong together: set both or neither",
}).refine((settings) => (settings.SUPABASE_URL === undefined) === (settings.SUPABASE_SECRET_KEY === undefined), {
  path: ["SUPABASE_URL"],
  message: "and SUPABASE_SECRET_KEY belong together: set both or neither",
});

/** What `--stop-workers` needs: no database and no platform. */
const stoppingSchema = z.object({ OSP_STATE_DIR: stateDirectory, OSP_DRAIN_SECONDS: drainSeconds });

/** What only OSP_PLATFORM=railway needs. */
const railwaySchema = z.object({
  RAILWAY_API_TOKEN: z.string("is not set: a token of the Railway workspace (Railway, Account Settings, Tokens)"),
  OSP_RAILWAY_PROJECT: z.string("is not set: the id of the Railway project, as in its URL"),
  OSP_RAILWAY_ENVIRONMENT: z.string("is not set: the id of the project's environment, as in its URL"),
});

export interface RailwayConfig {
  token: string;
  project: string;
  environment: string;
  /** The operator's own, for every worker. Their values are secret. */
  variables: Record<string, string>;
}

/** What `npm run railway:doctor` needs: no database. */
const doctorSchema = z.object({
  RAILWAY_CLI_PATH: environmentSchema.shape.RAILWAY_CLI_PATH,
  RAILWAY_API_TOKEN: environmentSchema.shape.RAILWAY_API_TOKEN,
  OSP_RAILWAY_PROJECT: environmentSchema.shape.OSP_RAILWAY_PROJECT,
  OSP_RAILWAY_ENVIRONMENT: environmentSchema.shape.OSP_RAILWAY_ENVIRONMENT,
  OSP_RAILWAY_ALLOW_ENVIRONMENTS: environmentSchema.shape.OSP_RAILWAY_ALLOW_ENVIRONMENTS,
  OSP_RAILWAY_CALL_TIMEOUT_SECONDS: environmentSchema.shape.OSP_RAILWAY_CALL_TIMEOUT_SECONDS,
});
export type DoctorConfig = z.infer<typeof doctorSchema> & { railway: RailwayConfig };

export type DeployerConfig = z.infer<typeof environmentSchema> & {
  /** Who we are in leases, attempts and logs: host and process. */
  owner: string;
  /** Temporal's own variables, handed to workers as they are. */
  temporal: Record<string, string>;
  /** What else workers are given as it is: how they call the endpoints of activities. */
  activities: Record<string, string>;
  /** Undefined on other platforms. */
  railway: RailwayConfig | undefined;
};

/**
 * The deployer's settings; blank means not set.
 *
 * @throws {StartError} naming every bad variable at once
 */
export function parseConfig(environment: NodeJS.ProcessEnv): DeployerConfig {
  const environmentGiven = given(environment);
  const settings = parse(environmentSchema, environment);
  const variablesOf = (isMeant: (name: string) => boolean) =>
    Object.fromEntries(
      Object.entries(environmentGiven).flatMap(([name, value]) =>
        isMeant(name) && value !== undefined ? [[name, value] as const] : []
      ),
    );
  return {
    ...settings,
    owner: `${hostname()}:${process.pid}`,
    temporal: variablesOf((name) => name.startsWith("TEMPORAL_")),
    activities: variablesOf((name) => ACTIVITY_SETTINGS.includes(name)),
    railway: settings.OSP_PLATFORM === "railway" ? deployingRailwayOf(settings, environmentGiven) : undefined,
  };
}

/** @throws {StartError} naming every bad variable at once */
export function parseStoppingConfig(environment: NodeJS.ProcessEnv): z.infer<typeof stoppingSchema> {
  return parse(stoppingSchema, environment);
}

/** @throws {StartError} naming every bad variable at once */
export function parseDoctorConfig(environment: NodeJS.ProcessEnv): DoctorConfig {
  const settings = parse(doctorSchema, environment, "the doctor of Railway");
  return { ...settings, railway: railwayOf(settings, given(environment)) };
}

function given(environment: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  return Object.fromEntries(Object.entries(environment).filter(([, value]) => value?.trim()));
}

function parse<Schema extends z.ZodType>(
  schema: Schema,
  environment: NodeJS.ProcessEnv,
  program = "the deployer",
): z.infer<Schema> {
  const parsed = schema.safeParse(given(environment));
  if (parsed.success) return parsed.data;
  // Without the values: an URL holds a password.
  throw new StartError(`Cannot start ${program}: ${formatProblems(problemsOf(parsed.error, undefined))}`);
}

/** @throws {StartError} naming every bad variable at once */
function railwayOf(
  settings: Partial<z.infer<typeof environmentSchema>>,
  variables: NodeJS.ProcessEnv,
  more: Problem[] = [],
): RailwayConfig {
  const parsed = railwaySchema.safeParse(settings);
  const problems = [...(parsed.success ? [] : problemsOf(parsed.error, undefined)), ...more];
  if (settings.RAILWAY_API_TOKEN === undefined && variables["RAILWAY_TOKEN"] !== undefined) {
    problems.push({ path: "RAILWAY_TOKEN", message: "is not used: a project token cannot make services" });
  }
  if (!parsed.success || problems.length > 0) {
    throw new StartError(`Cannot use Railway: ${formatProblems(problems)}`);
  }
  const { RAILWAY_API_TOKEN: token, OSP_RAILWAY_PROJECT: project, OSP_RAILWAY_ENVIRONMENT: environment } = parsed.data;
  return { token, project, environment, variables: settings.OSP_RAILWAY_VARIABLES ?? {} };
}

/** Workers on Railway have Temporal's variables from here, and nothing else of this machine. */
function deployingRailwayOf(
  settings: z.infer<typeof environmentSchema>,
  variables: NodeJS.ProcessEnv,
): RailwayConfig {
  const problems = Object.keys(variables).filter((name) => /^TEMPORAL_.*(_PATH|_CONFIG_FILE)$/.test(name)).map(
    (name) => {
      const mend = name.endsWith("_PATH")
        ? `; give its text by ${name.replace(/_PATH$/, "_DATA")}`
        : "; give its settings one by one";
      return { path: name, message: `names a file of this machine, which no worker on Railway has${mend}` };
    },
  );
  if (variables["TEMPORAL_ADDRESS"] === undefined) {
    problems.push({
      path: "TEMPORAL_ADDRESS",
      message: "is not set: workers on Railway would look for Temporal in themselves",
    });
  }
  return railwayOf(settings, variables, problems);
}

/** What of the settings is the deployer's loop's. */
export function loopSettings(config: DeployerConfig) {
  return {
    concurrency: config.OSP_CONCURRENCY,
    pollSeconds: config.OSP_POLL_SECONDS,
    leaseSeconds: config.OSP_LEASE_SECONDS,
    renewSeconds: config.OSP_RENEW_SECONDS,
    sweepSeconds: config.OSP_SWEEP_SECONDS,
    reconcileSeconds: config.OSP_RECONCILE_SECONDS,
    shutdownSeconds: config.OSP_SHUTDOWN_SECONDS,
  };
}
