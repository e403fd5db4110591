import { z } from "zod";
import { isEndpointTemplate } from "./activity-endpoint.ts";
import { notAnObject } from "./problems.ts";
import { codeHash } from "./service-code.ts";

// The SQL of osp.services has the same options, limits and words (osp.option_rules); tests compare both.

// Both limits in one go: each by itself would make the schema anew, which a worker does whenever it starts.
const whole = (least: number, most: number, unit = "") => {
  const range = `must be from ${least} to ${most}`;
  return z.int(`must be a whole number${unit}`).check(z.gte(least, range), z.lte(most, range));
};

const decimal = (least: number, most: number) => {
  const range = `must be from ${least} to ${most}`;
  return z.number("must be a number").check(z.gte(least, range), z.lte(most, range));
};

const endpoint = z.string("must be a string").refine(
  isEndpointTemplate,
  "must be an http or https URL without user or password, blank, backslash or invisible character; " +
    "{service_schema} and {activity} are filled in",
);
const writtenEndpoint = endpoint.max(2048, "must have at most 2048 characters");

/** Waits between the attempts of an activity: the first one, then each so many times the one before, up to the longest. */
const retrySchema = z.strictObject(
  {
    initial_interval_seconds: decimal(0.001, 86_400).optional(),
    backoff_coefficient: decimal(1, 100).optional(),
    maximum_interval_seconds: decimal(0.001, 86_400).optional(),
  },
  notAnObject("must be an object"),
).superRefine(({ initial_interval_seconds = 0, maximum_interval_seconds = Infinity }, context) => {
  if (maximum_interval_seconds >= initial_interval_seconds) return;
  context.addIssue({
    code: "custom",
    path: ["maximum_interval_seconds"],
    message: "must not be less than initial_interval_seconds",
  });
});

/** What one activity has of its own; what is left out is as for all of them. */
const activityOptionsSchema = z.strictObject(
  {
    endpoint: writtenEndpoint.optional(),
    timeout_seconds: whole(1, 86_400, " of seconds").optional(),
    max_attempts: whole(1, 1000).optional(),
    retry: retrySchema.optional(),
    /** Of these one worker process runs at once, at most; left out: as all others share. */
    max_concurrent: whole(1, 1000).optional(),
    /** Of these one worker process begins in a second; left out: no limit but that of all. */
    max_per_second: decimal(0.01, 100_000).optional(),
    /** Of these all workers of the service together begin in a second; left out: no limit but that of all. */
    max_task_queue_per_second: decimal(0.01, 100_000).optional(),
  },
  notAnObject("must be an object"),
);

interface OptionsByActivity {
  activities?: Record<string, z.infer<typeof activityOptionsSchema>> | undefined;
}

/** `osp.services.options`: how a service runs, beyond which workflows it has. What is left out takes the default. */
export const serviceOptionsSchema = z.strictObject(
  {
    /** Where the built-in activities post to; see `activityUrl`. Left out: the project's default endpoint. */
    activity_endpoint: writtenEndpoint.optional(),
    /** Seconds that one attempt of an activity may take, from its start to its result. */
    activity_timeout_seconds: whole(1, 86_400, " of seconds").optional(),
    /** Attempts of an activity in all; left out: it is tried until it succeeds or the workflow ends. */
    activity_max_attempts: whole(1, 1000).optional(),
    /** Waits between the attempts. */
    activity_retry: retrySchema.optional(),
    /**
     * Activities that one worker process runs at once; left out: as many as suit its memory. Each task queue has its share, at least one:
     * that of the service, and that of each activity with limits of its own.
     */
    max_concurrent_activities: whole(1, 1000).optional(),
    /** Activities that one worker process begins in a second, shared out alike; left out: no limit. */
    max_activities_per_second: decimal(0.01, 100_000).optional(),
    /**
     * Activities that all workers of the service together begin in a second, shared out as above; left out: no limit. Temporal counts them
     * by task queue: a manifest of more than one, other than those of activities, has as many times that.
     */
    max_task_queue_activities_per_second: decimal(0.01, 100_000).optional(),
    /** Worker processes of the service; left out: as the platform is set up, else one. */
    replicas: whole(1, 50).optional(),
    /** What single activities have of their own, by name. */
    activities: byActivity(activityOptionsSchema).superRefine(refuseManyLimited).optional(),
    /** The service's own code; left out: it has none. */
    code: codeHash.optional(),
    /** False: open workflows are not replayed with a revision's code before it is deployed. Left out: they are. */
    replay_gate: z.boolean("must be true or false").optional(),
  },
  notAnObject("must be an object"),
);

/** In seconds: Temporal's own, but for the longest wait, which would be 100 s there. */
const DEFAULT_RETRY = { initial_interval_seconds: 1, backoff_coefficient: 2, maximum_interval_seconds: 60 };
export type Retry = typeof DEFAULT_RETRY;

/** What is left out is as `rest` says; of the first and the longest wait the one that was named counts. */
function completeRetry(given: z.infer<typeof retrySchema>, rest: Retry): Retry {
  const initial_interval_seconds = given.initial_interval_seconds ??
    Math.min(rest.initial_interval_seconds, given.maximum_interval_seconds ?? Infinity);
  return {
    initial_interval_seconds,
    backoff_coefficient: given.backoff_coefficient ?? rest.backoff_coefficient,
    maximum_interval_seconds: given.maximum_interval_seconds ??
      Math.max(rest.maximum_interval_seconds, initial_interval_seconds),
  };
}

/**
 * Options as a manifest holds them: resolved, defaults filled in. Endpoints have the service's name in them and may be
 * longer; manifests of earlier versions lack what came later.
 */
export const resolvedOptionsSchema = serviceOptionsSchema.extend({
  activity_endpoint: endpoint.optional(),
  activity_timeout_seconds: serviceOptionsSchema.shape.activity_timeout_seconds.default(60),
  activity_retry: retrySchema.transform((retry) => completeRetry(retry, DEFAULT_RETRY)).prefault({}),
  activities: byActivity(activityOptionsSchema.extend({ endpoint: endpoint.optional() })).default({}),
});
export type ResolvedOptions = z.infer<typeof resolvedOptionsSchema>;

/** How one activity is called. */
export interface ActivityOptions {
  endpoint?: string | undefined;
  timeout_seconds: number;
  max_attempts?: number | undefined;
  retry: Retry;
}

/** What holds for one activity: its own options, else those of all activities. */
export function optionsOfActivity(options: ResolvedOptions, activity: string): ActivityOptions {
  const own = ownOptions(options, activity);
  return {
    endpoint: own?.endpoint ?? options.activity_endpoint,
    timeout_seconds: own?.timeout_seconds ?? options.activity_timeout_seconds,
    max_attempts: own?.max_attempts ?? options.activity_max_attempts,
    retry: completeRetry(own?.retry ?? {}, options.activity_retry),
  };
}

/** Left out: no limit but that of all activities. */
export interface ActivityLimits {
  max_concurrent?: number | undefined;
  max_per_second?: number | undefined;
  max_task_queue_per_second?: number | undefined;
}

/** The limits that an activity has of its own; undefined: it has none. */
export function limitsOfActivity(options: OptionsByActivity, activity: string): ActivityLimits | undefined {
  const { max_concurrent, max_per_second, max_task_queue_per_second } = ownOptions(options, activity) ?? {};
  const limits = { max_concurrent, max_per_second, max_task_queue_per_second };
  return Object.values(limits).some((limit) => limit !== undefined) ? limits : undefined;
}

/** Each costs its worker a task queue more to poll. */
const MOST_LIMITED = 20;

function refuseManyLimited(activities: NonNullable<OptionsByActivity["activities"]>, context: z.RefinementCtx): void {
  const limited = Object.keys(activities).filter((name) => limitsOfActivity({ activities }, name) !== undefined);
  if (limited.length <= MOST_LIMITED) return;
  context.addIssue({ code: "custom", message: `must limit at most ${MOST_LIMITED} activities` });
}

/** Undefined where an activity has none. */
function ownOptions({ activities = {} }: OptionsByActivity, activity: string) {
  return Object.hasOwn(activities, activity) ? activities[activity] : undefined;
}

interface Named {
  workflows: { activities: string[] }[];
  options?: { activities?: Record<string, unknown> | undefined } | undefined;
}

/** Options of an activity that no workflow has: they would do nothing, and nobody would notice. */
export function refuseUnusedActivities({ workflows, options }: Named, context: z.RefinementCtx): void {
  const used = new Set(workflows.flatMap(({ activities }) => activities));
  for (const name of Object.keys(options?.activities ?? {})) {
    if (!used.has(name)) {
      context.addIssue({ code: "custom", path: ["options", "activities"], message: unusedActivity(name) });
    }
  }
}

function unusedActivity(name: string): string {
  return `${JSON.stringify(name)} is no activity of this service's workflows`;
}

/** Options by the name of an activity. z.record passes over a key "__proto__" without a word. */
function byActivity<Schema extends z.ZodType>(schema: Schema) {
  const record = z.record(z.string(), schema, "must be an object of activities and their options");
  return z.custom<z.input<typeof record>>(
    (given) => !Object.hasOwn(Object(given), "__proto__"),
    unusedActivity("__proto__"),
  ).pipe(record);
}
