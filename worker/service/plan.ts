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
