/** Who may do what in our schemas. Everything that does not stand here is refused; `access.test.ts` tries all of it for real. */

export const roles = ["anon", "authenticated", "service_role", "osp_writer", "osp_deployer", "osp_analyst"] as const;
export type Role = (typeof roles)[number];

/** `*`: every column, also of later; else the columns by name. */
export type Grants = Partial<Record<Role, "*" | string[]>>;

/** A verb that is left out is refused to everybody. */
export interface RelationAccess {
  select?: Grants;
  insert?: Grants;
  update?: Grants;
  delete?: Role[];
  truncate?: Role[];
  references?: Grants;
  trigger?: Role[];
  maintain?: Role[];
}

export const schemas: Record<string, { usage: Role[]; create: Role[] }> = {
  osp: { usage: ["service_role", "osp_writer", "osp_analyst"], create: [] },
  osp_metadata: { usage: ["service_role", "osp_writer", "osp_deployer", "osp_analyst"], create: [] },
};

/** Tables and views. */
export const relations: Record<string, RelationAccess> = {
  "osp.services": {
    select: whole("service_role", "osp_writer", "osp_analyst"),
    insert: whole("service_role", "osp_writer"),
    update: whole("service_role", "osp_writer"),
    delete: ["service_role", "osp_writer"],
    truncate: ["osp_writer"],
  },
  "osp_metadata.service_intents": { select: whole("service_role", "osp_writer", "osp_deployer", "osp_analyst") },
  "osp_metadata.worker_registry": {
    select: whole("service_role", "osp_writer", "osp_deployer", "osp_analyst"),
    update: {
      osp_deployer: [
        ...[
          "deployment_status",
          "deployed_at",
          "logs",
          "retry_count",
          "last_health_check",
          "worker_version",
          "started_at",
        ],
        ...[
          "next_attempt_at",
          "lease_owner",
          "lease_token",
          "lease_expires_at",
          "stopped_at",
          "error_code",
          "error_message",
        ],
        ...["platform", "platform_service_id", "platform_deployment_id", "claimed_at", "attempt_id"],
      ],
    },
  },
  "osp_metadata.deployment_attempts": {
    select: whole("service_role", "osp_writer", "osp_deployer", "osp_analyst"),
    insert: { osp_deployer: ["deployment_id", "service_schema", "revision", "attempt", "deployer"] },
    update: {
      osp_deployer: [
        ...["step", "ended_at", "outcome", "error_class", "error_code", "error_message", "exit_code", "log_tail"],
        "rejected_deployment_id",
      ],
    },
  },
  "osp_metadata.platforms": {
    select: whole("osp_deployer", "osp_analyst"),
    update: {
      osp_deployer: [
        ...[
          "paused_at",
          "pause_reason",
          "paused_by",
          "probed_at",
          "window_started_at",
          "window_requests",
          "window_quota",
        ],
        ...["throttled_until", "supervisor", "supervised_at"],
      ],
    },
  },
  // How long history is kept is the owner's decision: whoever writes services must not erase their trace.
  "osp_metadata.retention": { select: whole("osp_writer", "osp_analyst") },
  "osp_metadata.orphans": { select: whole("service_role", "osp_writer", "osp_deployer", "osp_analyst") },
  "osp_metadata.pruned_objects": { select: whole("osp_analyst") },
  "osp_metadata.service_code": { select: whole("service_role", "osp_writer", "osp_analyst") },
  "osp_metadata.worker_status": { select: whole("service_role", "osp_writer", "osp_analyst") },
  "osp_metadata.deployment_history": { select: whole("service_role", "osp_writer", "osp_analyst") },
};

/** For nextval, currval and setval alike. */
export const sequences: Record<string, Role[]> = {
  "osp_metadata.deployment_attempts_id_seq": [],
};

/** Who may call it; all functions of one name are alike. */
export const functions: Record<string, Role[]> = {
  // OSP's requests.
  "osp.deploy_service": ["service_role", "osp_writer"],
  "osp.redeploy": ["service_role", "osp_writer"],
  "osp.rollback": ["service_role", "osp_writer"],
  "osp.record_code": ["service_role", "osp_writer"],
  "osp.set_code": ["service_role", "osp_writer"],
  "osp.remove_orphan": ["service_role", "osp_writer"],
  // The check of osp.services runs as whoever writes.
  "osp.check_name": ["service_role", "osp_writer"],
  "osp.check_names": ["service_role", "osp_writer"],
  "osp.check_option": ["service_role", "osp_writer"],
  "osp.check_option_activities": ["service_role", "osp_writer"],
  "osp.check_option_set": ["service_role", "osp_writer"],
  "osp.check_options": ["service_role", "osp_writer"],
  "osp.check_workflows": ["service_role", "osp_writer"],
  "osp.is_reserved_name": ["service_role", "osp_writer"],
  "osp.is_valid_code": ["service_role", "osp_writer"],
  "osp.is_valid_service": ["service_role", "osp_writer"],
  "osp.option_rules": ["service_role", "osp_writer"],
  "osp.quote_value": ["service_role", "osp_writer"],
  "osp.refuse_service": ["service_role", "osp_writer"],
  "osp.unusable_numbers": ["service_role", "osp_writer"],
  "osp.visible": ["service_role", "osp_writer"],
  // The Edge Function.
  "osp_metadata.enqueue_deployments": ["service_role"],
  "osp_metadata.release_intents": ["service_role"],
  "osp_metadata.take_intents": ["service_role"],
  "osp_metadata.take_pruned_objects": ["service_role"],
  "osp_metadata.forget_pruned_objects": ["service_role"],
  "osp_metadata.take_unused_code": ["service_role"],
  "osp_metadata.forget_unused_code": ["service_role"],
  "osp_metadata.use_named_code": [],
  "osp_metadata.use_code": ["service_role"],
  "osp_metadata.count_waiting_intents": ["service_role", "osp_deployer"],
  // The deployer.
  "osp_metadata.abandon_attempts": ["osp_deployer"],
  "osp_metadata.append_log": ["osp_deployer"],
  "osp_metadata.attempts_before": ["osp_deployer"],
  "osp_metadata.begin_attempt": ["osp_deployer"],
  "osp_metadata.count_left_attempts": ["osp_deployer"],
  "osp_metadata.count_unused_code": ["osp_deployer"],
  "osp_metadata.check_code": ["osp_deployer"],
  "osp_metadata.cut_text": ["osp_deployer"],
  "osp_metadata.end_silent_supervisor": ["osp_deployer"],
  "osp_metadata.has_unwritten_attempt": ["osp_deployer"],
  "osp_metadata.past_of": ["osp_deployer"],
  "osp_metadata.served_before": ["osp_deployer"],
  "osp_metadata.find_lost_services": ["osp_deployer"],
  "osp_metadata.free_slots": ["osp_deployer"],
  "osp_metadata.oldest_suspect": ["osp_deployer"],
  "osp_metadata.prune": ["osp_deployer"],
  "osp_metadata.reconcile": ["osp_deployer"],
  "osp_metadata.reconcile_platform": ["osp_deployer"],
  "osp_metadata.record_health": ["osp_deployer"],
  "osp_metadata.record_supervisor": ["osp_deployer"],
  "osp_metadata.take_health_turn": ["osp_deployer"],
  "osp_metadata.take_reconcile_turn": ["osp_deployer"],
  // Called by the functions above as their owner, and by triggers.
  "osp.refuse_null": [],
  "osp.refuse_invalid": [],
  "osp.refuse_rename": [],
  "osp.touch_updated_at": [],
  "osp_metadata.as_deployments": [],
  "osp_metadata.as_listed_services": [],
  "osp_metadata.close_new_functions": [],
  "osp_metadata.count_pruned_objects": [],
  "osp_metadata.explain_rollback_refusal": [],
  "osp_metadata.fail_exhausted_intents": [],
  "osp_metadata.find_differences": [],
  "osp_metadata.find_left_services": [],
  "osp_metadata.find_leftover_workers": [],
  "osp_metadata.find_orphans": [],
  "osp_metadata.find_prunable": [],
  "osp_metadata.find_unused_code": [],
  "osp_metadata.hash_spec": [],
  "osp_metadata.is_due_again": [],
  "osp_metadata.is_known_service": [],
  "osp_metadata.is_under_way": [],
  "osp_metadata.list_rollback_targets": [],
  "osp_metadata.lock_open_deployments": [],
  "osp_metadata.lock_services": [],
  "osp_metadata.lost_services_allowed": [],
  "osp_metadata.manifest_object": [],
  "osp_metadata.record_intents": [],
  "osp_metadata.record_service_deletes": [],
  "osp_metadata.record_service_inserts": [],
  "osp_metadata.record_service_truncate": [],
  "osp_metadata.record_service_updates": [],
  "osp_metadata.redeploy_lost": [],
  "osp_metadata.refuse_retention": [],
  "osp_metadata.report_orphans": [],
  "osp_metadata.requesting_role": [],
  "osp_metadata.ring": [],
  "osp_metadata.stop_left": [],
  "osp_metadata.supersede": [],
  "osp_metadata.unlocked_intents": [],
};

function whole(...names: Role[]): Grants {
  return Object.fromEntries(names.map((name) => [name, "*"]));
}
