import { Context } from "@temporalio/activity";
import { ApplicationFailure } from "@temporalio/common";
import { activityUrl } from "../../supabase/functions/_shared/activity-endpoint.ts";
import type { Manifest } from "../../supabase/functions/_shared/manifest.ts";
import { optionsOfActivity } from "../../supabase/functions/_shared/service-options.ts";
import type { OwnOptions, Plan, PlanActivities, RecordedEndpoints } from "./plan.ts";
import { type Caller, postActivity } from "./post-activity.ts";

/** With these seconds a lost worker is noticed; the HTTP activities send one each `HEARTBEAT_MS`. */
const HEARTBEAT_TIMEOUT_SECONDS = 10;
const HEARTBEAT_MS = 3_000;

export type ActivityFunction = (input?: unknown, recorded?: unknown) => Promise<unknown>;

/**
 * The built-in activity: posts its input to the service's endpoint and returns the answer. It serves every name.
 *
 * The endpoint is read from the worker's manifest, not from the call: what a workflow does is settled when it starts,
 * where the code lives is not. When an endpoint moves, running workflows follow at their next attempt instead of
 * knocking at the old address until they end. Only what the manifest does not name any more goes where it always went.
 */
export function createHttpActivity(manifest: Manifest, caller: Caller): ActivityFunction {
  const named = new Set(manifest.workflows.flatMap(({ activities }) => activities));
  return async (input, recorded) => {
    const context = Context.current();
    const { activityType, activityId, attempt, workflowExecution, workflowType, startToCloseTimeoutMs } = context.info;
    if (workflowExecution === undefined || workflowType === undefined) throw withoutWorkflow(activityType);
    const heartbeats = setInterval(() => context.heartbeat(), HEARTBEAT_MS);
    try {
      return await postActivity({
        url: activityUrl(endpointOf(manifest, named, activityType, recorded), activityType),
        call: {
          service_schema: manifest.service_schema,
          revision: manifest.revision,
          workflow_id: workflowExecution.workflowId,
          run_id: workflowExecution.runId,
          workflow_type: workflowType,
          activity: activityType,
          attempt,
          idempotency_key: `${workflowExecution.runId}/${activityId}`,
          input: input ?? null,
        },
        timeoutMs: startToCloseTimeoutMs,
        signal: context.cancellationSignal,
      }, caller);
    } catch (error) {
      // Temporal wants its own failure for a cancelled activity: it tells a cancelled workflow from a worker that stops.
      if (context.cancellationSignal.aborted) await context.cancelled;
      throw error;
    } finally {
      clearInterval(heartbeats);
    }
  };
}

function endpointOf(manifest: Manifest, named: Set<string>, activity: string, recorded: unknown): string {
  const { options, service_schema } = manifest;
  const began = readRecorded(recorded);
  const endpoint = named.has(activity)
    ? optionsOfActivity(options, activity).endpoint
    : began.endpoint ?? options.activity_endpoint ?? began.activity_endpoint;
  if (endpoint !== undefined) return endpoint;
  // Tried again: a later revision may name one.
  throw ApplicationFailure.create({
    message:
      `Service "${service_schema}" (revision ${manifest.revision}) names no endpoint for the activity "${activity}", ` +
      `with which a running workflow began: set options.activity_endpoint`,
    type: "ActivityEndpointMissing",
  });
}

/** Whatever a workflow gave as the second argument: own code may give anything. */
function readRecorded(recorded: unknown): RecordedEndpoints["osp_recorded"] {
  const { endpoint, activity_endpoint } = Object(Object(recorded).osp_recorded);
  return {
    ...(typeof endpoint === "string" ? { endpoint } : {}),
    ...(typeof activity_endpoint === "string" ? { activity_endpoint } : {}),
  };
}

/** Tells a workflow that begins what to do; see `Plan`. */
export function createPlanActivities(manifest: Manifest, isPosted: boolean): PlanActivities {
  return {
    async __osp_plan(name: string): Promise<Plan> {
      const workflow = manifest.workflows.find((candidate) => candidate.name === name);
      if (workflow === undefined) throw unknownWorkflow(manifest, name);
      const { activity_timeout_seconds, activity_max_attempts, activity_retry, activity_endpoint } = manifest.options;
      const own = ownOptions(manifest, workflow.activities, isPosted);
      return {
        activities: workflow.activities,
        activity_timeout_seconds,
        ...(activity_max_attempts === undefined ? {} : { activity_max_attempts }),
        ...(isPosted ? { heartbeat_timeout_seconds: HEARTBEAT_TIMEOUT_SECONDS } : {}),
        activity_retry,
        ...(isPosted && activity_endpoint !== undefined ? { activity_endpoint } : {}),
        ...(Object.keys(own).length === 0 ? {} : { own_options: own }),
      };
    },
  };
}

function ownOptions({ options }: Manifest, activities: string[], isPosted: boolean): Record<string, OwnOptions> {
  const own = activities.filter((name) => Object.hasOwn(options.activities, name)).map((name) => {
    const { timeout_seconds, max_attempts, retry } = optionsOfActivity(options, name);
    const endpoint = isPosted ? options.activities[name]?.endpoint : undefined;
    return [name, {
      timeout_seconds,
      retry,
      ...(max_attempts === undefined ? {} : { max_attempts }),
      ...(endpoint === undefined ? {} : { endpoint }),
    }] as const;
  });
  return Object.fromEntries(own);
}

function withoutWorkflow(activity: string): ApplicationFailure {
  return ApplicationFailure.nonRetryable(
    `Cannot run activity "${activity}" by itself: endpoints are called for workflows`,
    "ActivityWithoutWorkflow",
  );
}

function unknownWorkflow({ service_schema, revision, workflows }: Manifest, name: string): ApplicationFailure {
  const names = workflows.map((workflow) => workflow.name).join(", ");
  return ApplicationFailure.nonRetryable(
    `Cannot run workflow "${name}": service "${service_schema}" (revision ${revision}) has ${names}`,
    "UnknownWorkflow",
  );
}
