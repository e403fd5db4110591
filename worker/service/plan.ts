import type { Retry } from "../../supabase/functions/_shared/service-options.ts";

/**
 * What one run of a workflow does: read once from the manifest, recorded in the run's history, followed to its end.
 * Histories hold this shape for as long as their workflows run: add members, never change what one means.
 */
export interface Plan {
  /** Activities in order, each one's result the input of the next. */
  activities: string[];
  activity_timeout_seconds: number;
  /** Left out: an activity is tried until it succeeds or the workflow ends. */
  activity_max_attempts?: number;
  /** Left out: the activities send no heartbeats (own code may not). */
  heartbeat_timeout_seconds?: number;
  /** Left out, as in plans of the first version: 1 s, then doubling up to a minute. */
  activity_retry?: Retry;
  /** Where the activities are posted, but for those with an endpoint of their own. Left out: own code runs them. */
  activity_endpoint?: string;
  /** Activities that have options of their own, each with all that holds for it. */
  own_options?: Record<string, OwnOptions>;
}

export interface OwnOptions {
  timeout_seconds: number;
  max_attempts?: number;
  retry: Retry;
  endpoint?: string;
}

/**
 * Second argument of an activity that is posted: where its run would have posted it when it began. The worker's manifest
 * comes first; these are for activities that a later manifest no longer names.
 */
export interface RecordedEndpoints {
  osp_recorded: { endpoint?: string; activity_endpoint?: string };
}

/** Answer to the query `status`. */
export interface WorkflowStatus {
  workflow: string;
  /** Empty until the plan is recorded. */
  activities: string[];
  completed: number;
  /** The activity that runs or waits for its next attempt. */
  running: string | null;
}

export interface PlanActivities {
  /** The prefix `__osp_` is refused in manifests, so no service can own this name. */
  __osp_plan(workflow: string): Promise<Plan>;
}
