import { Context } from "@temporalio/activity";
import { ApplicationFailure } from "@temporalio/common";
import { activityUrl } from "../../supabase/functions/_shared/activity-endpoint.ts";
import type { Manifest } from "../../supabase/functions/_shared/manifest.ts";
import { postActivity } from "./post-activity.ts";
import type { Plan, PlanActivities } from "./plan.ts";

/** With these seconds a lost worker is noticed; the HTTP activities send one each `HEARTBEAT_MS`. */
const HEARTBEAT_TIMEOUT_SECONDS = 10;
const HEARTBEAT_MS = 3_000;

export type ActivityFunction = (...input: unknown[]) => Promise<unknown>;

/**
 * The built-in activity: posts its input to the service's endpoint and returns the answer. It serves every name.
 *
 * The endpoint is read from the worker's manifest, not from the call: what a workflow does is settled when it starts,
 * where the code lives is not. When an endpoint moves, running workflows follow at their next attempt instead of
 * knocking at the old address until they end.
 */
export function createHttpActivity(manifest: Manifest, endpoint: string): ActivityFunction {
  return async (input) => {
    const context = Context.current();
    const { activityType, activityId, attempt, workflowExecution, workflowType, startToCloseTimeoutMs } = context.info;
    const heartbeats = setInterval(() => context.heartbeat(), HEARTBEAT_MS);
    try {
      return await postActivity({
        url: activityUrl(endpoint, activityType),
        idempotencyKey: `${workflowExecution?.runId}/${activityId}`,
        body: {
          service_schema: manifest.service_schema,
          revision: manifest.revision,
          workflow_id: workflowExecution?.workflowId,
          run_id: workflowExecution?.runId,
          workflow_type: workflowType,
          activity: activityType,
          attempt,
          input: input ?? null,
        },
        timeoutMs: startToCloseTimeoutMs,
        signal: context.cancellationSignal,
      });
    } catch (error) {
      // Temporal wants its own failure for a cancelled activity: it tells a cancelled workflow from a worker that stops.
      if (context.cancellationSignal.aborted) await context.cancelled;
      throw error;
    } finally {
      clearInterval(heartbeats);
    }
  };
}

/** Tells a workflow that begins what to do; see `Plan`. */
export function createPlanActivities(manifest: Manifest, sendsHeartbeats: boolean): PlanActivities {
  return {
    async __osp_plan(name: string): Promise<Plan> {
      const workflow = manifest.workflows.find((candidate) => candidate.name === name);
      if (workflow === undefined) throw unknownWorkflow(manifest, name);
      const { activity_timeout_seconds, activity_max_attempts } = manifest.options;
      return {
        activities: workflow.activities,
        activity_timeout_seconds,
        ...(activity_max_attempts === undefined ? {} : { activity_max_attempts }),
        ...(sendsHeartbeats ? { heartbeat_timeout_seconds: HEARTBEAT_TIMEOUT_SECONDS } : {}),
      };
    },
  };
}

function unknownWorkflow({ service_schema, revision, workflows }: Manifest, name: string): ApplicationFailure {
  const names = workflows.map((workflow) => workflow.name).join(", ");
  return ApplicationFailure.nonRetryable(
    `Cannot run workflow "${name}": service "${service_schema}" (revision ${revision}) has ${names}`,
    "UnknownWorkflow",
  );
}
