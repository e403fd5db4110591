import {
  ActivityFailure,
  ApplicationFailure,
  defineQuery,
  proxyActivities,
  proxyLocalActivities,
  setHandler,
  workflowInfo,
} from "@temporalio/workflow";
import type { RetryPolicy } from "@temporalio/common";
import type { Retry } from "../../supabase/functions/_shared/service-options.ts";
import type { OwnOptions, Plan, PlanActivities, RecordedEndpoints, WorkflowStatus } from "./plan.ts";

const { __osp_plan } = proxyLocalActivities<PlanActivities>({ startToCloseTimeout: "10s" });
const status = defineQuery<WorkflowStatus>("status");

/**
 * Every workflow of a service without code of its own: runs the workflow's activities in order, each one's result the
 * input of the next, and returns the last result.
 *
 * Only the history decides what a run does, so any revision's worker may go on with it. Histories of this function are
 * out there: a change of the commands that it makes needs `patched()`.
 */
export default async function runActivities(input: unknown = null): Promise<unknown> {
  const progress: WorkflowStatus = {
    workflow: workflowInfo().workflowType,
    activities: [],
    completed: 0,
    running: null,
  };
  setHandler(status, () => progress);

  const plan = await recordPlan(progress.workflow);
  progress.activities = plan.activities;
  let value = input;
  for (const activity of plan.activities) {
    progress.running = activity;
    value = await callActivity(plan, activity, value);
    progress.completed += 1;
  }
  progress.running = null;
  return value;
}

/** A local activity, because its result lands in the history: the manifest of a later revision cannot change it. */
async function recordPlan(workflow: string): Promise<Plan> {
  try {
    return await __osp_plan(workflow);
  } catch (error) {
    // A workflow that the service does not have: its caller should read why, not "Activity task failed".
    if (error instanceof ActivityFailure && error.cause instanceof ApplicationFailure) throw error.cause;
    throw error;
  }
}

async function callActivity(plan: Plan, activity: string, input: unknown): Promise<unknown> {
  const { activity_timeout_seconds, activity_max_attempts, heartbeat_timeout_seconds } = plan;
  const own = plan.own_options?.[activity];
  const maximumAttempts = own === undefined ? activity_max_attempts : own.max_attempts;
  const activities = proxyActivities<Record<string, (...input: unknown[]) => Promise<unknown>>>({
    startToCloseTimeout: (own?.timeout_seconds ?? activity_timeout_seconds) * 1000,
    ...(heartbeat_timeout_seconds === undefined ? {} : { heartbeatTimeout: heartbeat_timeout_seconds * 1000 }),
    retry: {
      ...retryPolicy(own?.retry ?? plan.activity_retry),
      ...(maximumAttempts === undefined ? {} : { maximumAttempts }),
    },
  });
  return await activities[activity]?.(input, ...recordedEndpoints(plan, own, input));
}

function retryPolicy(retry: Retry | undefined): RetryPolicy {
  if (retry === undefined) return { maximumInterval: "1 minute" };
  return {
    initialInterval: Math.round(retry.initial_interval_seconds * 1000),
    backoffCoefficient: retry.backoff_coefficient,
    maximumInterval: Math.round(retry.maximum_interval_seconds * 1000),
  };
}

/** Temporal's limit of 2 MiB is one for all arguments: beside a large input there may be no room for another. */
const LARGE_INPUT_CHARACTERS = 600_000;

/** Nothing for own code, whose activities have one argument. */
function recordedEndpoints(plan: Plan, own: OwnOptions | undefined, input: unknown): RecordedEndpoints[] {
  const [{ activity_endpoint }, endpoint] = [plan, own?.endpoint];
  if (activity_endpoint === undefined && endpoint === undefined) return [];
  if ((JSON.stringify(input) ?? "").length > LARGE_INPUT_CHARACTERS) return [];
  return [{
    osp_recorded: {
      ...(endpoint === undefined ? {} : { endpoint }),
      ...(activity_endpoint === undefined ? {} : { activity_endpoint }),
    },
  }];
}
