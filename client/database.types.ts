// Generated from the migrations by `npm run types`; do not edit.
export type Json = string | number | boolean | null | { [key: string]: Json | undefined } | Json[];

export type Database = {
  "osp": {
    Tables: {
      "services": {
        Row: {
          "created_at": string;
          "enabled": boolean;
          "id": string;
          "options": NonNullable<Json>;
          "service_name": string;
          "service_schema": string;
          "updated_at": string;
          "workflows": NonNullable<Json>;
        };
        ComputedFields: never;
        Insert: {
          "created_at"?: string;
          "enabled"?: boolean;
          "id"?: string;
          "options"?: NonNullable<Json>;
          "service_name": string;
          "service_schema": string;
          "updated_at"?: string;
          "workflows": NonNullable<Json>;
        };
        Update: {
          "created_at"?: string;
          "enabled"?: boolean;
          "id"?: string;
          "options"?: NonNullable<Json>;
          "service_name"?: string;
          "service_schema"?: string;
          "updated_at"?: string;
          "workflows"?: NonNullable<Json>;
        };
        Relationships: [];
      };
    };
    Views: {
      [_ in never]: never;
    };
    Functions: {
      "check_name": { Args: { "name": Json; "names_before": Json; "path": string }; Returns: undefined };
      "check_names": { Args: { "names": Json; "path": string }; Returns: undefined };
      "check_option": { Args: { "given": Json; "path": string; "rule": Json }; Returns: undefined };
      "check_option_activities": { Args: { "options": Json; "workflows": Json }; Returns: undefined };
      "check_option_set": { Args: { "given": Json; "path": string; "rules": Json }; Returns: undefined };
      "check_options": { Args: { "options": Json }; Returns: undefined };
      "check_workflows": { Args: { "workflows": Json }; Returns: undefined };
      "deploy_service": {
        Args: { "options"?: Json; "service_name": string; "service_schema": string; "workflows": Json };
        Returns: {
          "deployment_id": string;
          "revision": number;
        }[];
      };
      "is_reserved_name": { Args: { "name": string }; Returns: boolean };
      "is_valid_code": { Args: { "code": Json }; Returns: boolean };
      "is_valid_service": {
        Args: { "options": Json; "service_name": string; "service_schema": string; "workflows": Json };
        Returns: boolean;
      };
      "option_rules": { Args: Record<PropertyKey, never>; Returns: Json };
      "quote_value": { Args: { "given": Json }; Returns: string };
      "record_code": { Args: { "bytes": number; "code": string; "service_schema": string }; Returns: boolean };
      "redeploy": {
        Args: { "schema": string };
        Returns: {
          "deployment_id": string;
          "revision": number;
        }[];
      };
      "refuse_service": { Args: { "given": string; "path": string; "rule": string }; Returns: undefined };
      "remove_orphan": {
        Args: { "schema": string };
        Returns: {
          "deployment_id": string;
          "revision": number;
        }[];
      };
      "rollback": {
        Args: { "schema": string; "to_revision": number };
        Returns: {
          "deployment_id": string;
          "revision": number;
        }[];
      };
      "set_code": {
        Args: { "code": string; "schema": string };
        Returns: {
          "deployment_id": string;
          "revision": number;
        }[];
      };
      "unusable_numbers": { Args: Record<PropertyKey, never>; Returns: unknown };
      "visible": { Args: { "told": string }; Returns: string };
    };
    Enums: {
      [_ in never]: never;
    };
    CompositeTypes: {
      [_ in never]: never;
    };
  };
  "osp_metadata": {
    Tables: {
      "deployment_attempts": {
        Row: {
          "attempt": number;
          "deployer": string;
          "deployment_id": string;
          "ended_at": string | null;
          "error_class": string | null;
          "error_code": string | null;
          "error_message": string | null;
          "exit_code": number | null;
          "id": number;
          "log_tail": string | null;
          "outcome": string | null;
          "rejected_deployment_id": string | null;
          "revision": number;
          "service_schema": string;
          "started_at": string;
          "step": string;
        };
        ComputedFields: never;
        Insert: {
          "attempt": number;
          "deployer": string;
          "deployment_id": string;
          "ended_at"?: string | null;
          "error_class"?: string | null;
          "error_code"?: string | null;
          "error_message"?: string | null;
          "exit_code"?: number | null;
          "id"?: never;
          "log_tail"?: string | null;
          "outcome"?: string | null;
          "rejected_deployment_id"?: string | null;
          "revision": number;
          "service_schema": string;
          "started_at"?: string;
          "step"?: string;
        };
        Update: {
          "attempt"?: number;
          "deployer"?: string;
          "deployment_id"?: string;
          "ended_at"?: string | null;
          "error_class"?: string | null;
          "error_code"?: string | null;
          "error_message"?: string | null;
          "exit_code"?: number | null;
          "id"?: never;
          "log_tail"?: string | null;
          "outcome"?: string | null;
          "rejected_deployment_id"?: string | null;
          "revision"?: number;
          "service_schema"?: string;
          "started_at"?: string;
          "step"?: string;
        };
        Relationships: [
          {
            foreignKeyName: "deployment_attempts_deployment_id_fkey";
            columns: ["deployment_id"];
            isOneToOne: false;
            referencedRelation: "deployment_history";
            referencedColumns: ["deployment_id"];
          },
          {
            foreignKeyName: "deployment_attempts_deployment_id_fkey";
            columns: ["deployment_id"];
            isOneToOne: false;
            referencedRelation: "worker_registry";
            referencedColumns: ["id"];
          },
        ];
      };
      "orphans": {
        Row: {
          "first_seen_at": string;
          "last_seen_at": string;
          "platform": string;
          "platform_service_id": string;
          "reason": string;
          "service_schema": string;
        };
        ComputedFields: never;
        Insert: {
          "first_seen_at"?: string;
          "last_seen_at"?: string;
          "platform": string;
          "platform_service_id": string;
          "reason": string;
          "service_schema": string;
        };
        Update: {
          "first_seen_at"?: string;
          "last_seen_at"?: string;
          "platform"?: string;
          "platform_service_id"?: string;
          "reason"?: string;
          "service_schema"?: string;
        };
        Relationships: [];
      };
      "platforms": {
        Row: {
          "concurrency_limit": number | null;
          "health_checked_at": string | null;
          "instance": string;
          "name": string;
          "pause_reason": string | null;
          "paused_at": string | null;
          "paused_by": string | null;
          "probed_at": string | null;
          "reconcile_note": string | null;
          "reconciled_at": string | null;
          "services_listed": number | null;
          "supervised_at": string | null;
          "supervisor": string | null;
          "supervisor_lease_seconds": number | null;
          "throttled_until": string | null;
          "window_quota": number | null;
          "window_requests": number;
          "window_started_at": string | null;
        };
        ComputedFields: never;
        Insert: {
          "concurrency_limit"?: number | null;
          "health_checked_at"?: string | null;
          "instance"?: string;
          "name": string;
          "pause_reason"?: string | null;
          "paused_at"?: string | null;
          "paused_by"?: string | null;
          "probed_at"?: string | null;
          "reconcile_note"?: string | null;
          "reconciled_at"?: string | null;
          "services_listed"?: number | null;
          "supervised_at"?: string | null;
          "supervisor"?: string | null;
          "supervisor_lease_seconds"?: number | null;
          "throttled_until"?: string | null;
          "window_quota"?: number | null;
          "window_requests"?: number;
          "window_started_at"?: string | null;
        };
        Update: {
          "concurrency_limit"?: number | null;
          "health_checked_at"?: string | null;
          "instance"?: string;
          "name"?: string;
          "pause_reason"?: string | null;
          "paused_at"?: string | null;
          "paused_by"?: string | null;
          "probed_at"?: string | null;
          "reconcile_note"?: string | null;
          "reconciled_at"?: string | null;
          "services_listed"?: number | null;
          "supervised_at"?: string | null;
          "supervisor"?: string | null;
          "supervisor_lease_seconds"?: number | null;
          "throttled_until"?: string | null;
          "window_quota"?: number | null;
          "window_requests"?: number;
          "window_started_at"?: string | null;
        };
        Relationships: [];
      };
      "pruned_objects": {
        Row: {
          "last_error": string | null;
          "last_error_at": string | null;
          "lease_expires_at": string | null;
          "lease_token": string | null;
          "path": string;
          "revision": number | null;
          "service_schema": string;
          "waits_since": string;
        };
        ComputedFields: never;
        Insert: {
          "last_error"?: string | null;
          "last_error_at"?: string | null;
          "lease_expires_at"?: string | null;
          "lease_token"?: string | null;
          "path": string;
          "revision"?: number | null;
          "service_schema": string;
          "waits_since"?: string;
        };
        Update: {
          "last_error"?: string | null;
          "last_error_at"?: string | null;
          "lease_expires_at"?: string | null;
          "lease_token"?: string | null;
          "path"?: string;
          "revision"?: number | null;
          "service_schema"?: string;
          "waits_since"?: string;
        };
        Relationships: [];
      };
      "retention": {
        Row: {
          "is_only_row": boolean;
          "keep_days": number | null;
          "keep_revisions": number;
          "keep_unused_code_days": number | null;
          "pruned_through": string;
        };
        ComputedFields: never;
        Insert: {
          "is_only_row"?: boolean;
          "keep_days"?: number | null;
          "keep_revisions"?: number;
          "keep_unused_code_days"?: number | null;
          "pruned_through"?: string;
        };
        Update: {
          "is_only_row"?: boolean;
          "keep_days"?: number | null;
          "keep_revisions"?: number;
          "keep_unused_code_days"?: number | null;
          "pruned_through"?: string;
        };
        Relationships: [];
      };
      "service_code": {
        Row: {
          "bytes": number;
          "code": string;
          "last_error": string | null;
          "last_error_at": string | null;
          "lease_expires_at": string | null;
          "lease_token": string | null;
          "missing_since": string | null;
          "pushed_at": string;
          "pushed_by": string;
          "service_schema": string;
          "used_at": string | null;
        };
        ComputedFields: never;
        Insert: {
          "bytes": number;
          "code": string;
          "last_error"?: string | null;
          "last_error_at"?: string | null;
          "lease_expires_at"?: string | null;
          "lease_token"?: string | null;
          "missing_since"?: string | null;
          "pushed_at"?: string;
          "pushed_by": string;
          "service_schema": string;
          "used_at"?: string | null;
        };
        Update: {
          "bytes"?: number;
          "code"?: string;
          "last_error"?: string | null;
          "last_error_at"?: string | null;
          "lease_expires_at"?: string | null;
          "lease_token"?: string | null;
          "missing_since"?: string | null;
          "pushed_at"?: string;
          "pushed_by"?: string;
          "service_schema"?: string;
          "used_at"?: string | null;
        };
        Relationships: [];
      };
      "service_intents": {
        Row: {
          "attempts": number;
          "deployment_id": string;
          "enqueued_revision": number;
          "last_error": string | null;
          "last_error_at": string | null;
          "lease_expires_at": string | null;
          "lease_token": string | null;
          "requested_at": string;
          "requested_by": string;
          "revision": number;
          "rolled_back_to": number | null;
          "service_schema": string;
          "source": string;
          "wanted": string;
        };
        ComputedFields: never;
        Insert: {
          "attempts"?: number;
          "deployment_id"?: string;
          "enqueued_revision"?: number;
          "last_error"?: string | null;
          "last_error_at"?: string | null;
          "lease_expires_at"?: string | null;
          "lease_token"?: string | null;
          "requested_at"?: string;
          "requested_by": string;
          "revision": number;
          "rolled_back_to"?: number | null;
          "service_schema": string;
          "source": string;
          "wanted": string;
        };
        Update: {
          "attempts"?: number;
          "deployment_id"?: string;
          "enqueued_revision"?: number;
          "last_error"?: string | null;
          "last_error_at"?: string | null;
          "lease_expires_at"?: string | null;
          "lease_token"?: string | null;
          "requested_at"?: string;
          "requested_by"?: string;
          "revision"?: number;
          "rolled_back_to"?: number | null;
          "service_schema"?: string;
          "source"?: string;
          "wanted"?: string;
        };
        Relationships: [];
      };
      "worker_registry": {
        Row: {
          "attempt_id": number | null;
          "claimed_at": string | null;
          "created_at": string;
          "deployed_at": string | null;
          "deployment_status": string;
          "error_code": string | null;
          "error_message": string | null;
          "id": string;
          "last_health_check": string | null;
          "lease_expires_at": string | null;
          "lease_owner": string | null;
          "lease_token": string | null;
          "logs": string | null;
          "manifest": Json | null;
          "manifest_path": string;
          "manifest_sha256": string | null;
          "next_attempt_at": string | null;
          "platform": string | null;
          "platform_deployment_id": string | null;
          "platform_service_id": string | null;
          "requested_at": string | null;
          "requested_by": string | null;
          "retry_count": number | null;
          "revision": number;
          "rolled_back_to": number | null;
          "service_id": string | null;
          "service_schema": string;
          "source": string;
          "spec": Json | null;
          "spec_hash": string | null;
          "started_at": string | null;
          "stop_requested_at": string | null;
          "stopped_at": string | null;
          "worker_version": string | null;
        };
        ComputedFields: never;
        Insert: {
          "attempt_id"?: number | null;
          "claimed_at"?: string | null;
          "created_at"?: string;
          "deployed_at"?: string | null;
          "deployment_status"?: string;
          "error_code"?: string | null;
          "error_message"?: string | null;
          "id"?: string;
          "last_health_check"?: string | null;
          "lease_expires_at"?: string | null;
          "lease_owner"?: string | null;
          "lease_token"?: string | null;
          "logs"?: string | null;
          "manifest"?: Json | null;
          "manifest_path": string;
          "manifest_sha256"?: string | null;
          "next_attempt_at"?: string | null;
          "platform"?: string | null;
          "platform_deployment_id"?: string | null;
          "platform_service_id"?: string | null;
          "requested_at"?: string | null;
          "requested_by"?: string | null;
          "retry_count"?: number | null;
          "revision": number;
          "rolled_back_to"?: number | null;
          "service_id"?: string | null;
          "service_schema": string;
          "source": string;
          "spec"?: Json | null;
          "spec_hash"?: string | null;
          "started_at"?: string | null;
          "stop_requested_at"?: string | null;
          "stopped_at"?: string | null;
          "worker_version"?: string | null;
        };
        Update: {
          "attempt_id"?: number | null;
          "claimed_at"?: string | null;
          "created_at"?: string;
          "deployed_at"?: string | null;
          "deployment_status"?: string;
          "error_code"?: string | null;
          "error_message"?: string | null;
          "id"?: string;
          "last_health_check"?: string | null;
          "lease_expires_at"?: string | null;
          "lease_owner"?: string | null;
          "lease_token"?: string | null;
          "logs"?: string | null;
          "manifest"?: Json | null;
          "manifest_path"?: string;
          "manifest_sha256"?: string | null;
          "next_attempt_at"?: string | null;
          "platform"?: string | null;
          "platform_deployment_id"?: string | null;
          "platform_service_id"?: string | null;
          "requested_at"?: string | null;
          "requested_by"?: string | null;
          "retry_count"?: number | null;
          "revision"?: number;
          "rolled_back_to"?: number | null;
          "service_id"?: string | null;
          "service_schema"?: string;
          "source"?: string;
          "spec"?: Json | null;
          "spec_hash"?: string | null;
          "started_at"?: string | null;
          "stop_requested_at"?: string | null;
          "stopped_at"?: string | null;
          "worker_version"?: string | null;
        };
        Relationships: [];
      };
    };
    Views: {
      "deployment_history": {
        Row: {
          "attempts": number | null;
          "created_at": string;
          "deployed_at": string | null;
          "deployers": (string)[] | null;
          "deploying_took": string | null;
          "deployment_id": string;
          "deployment_status": string;
          "ended_at": string | null;
          "enqueuing_took": string | null;
          "error_code": string | null;
          "error_message": string | null;
          "requested_at": string | null;
          "requested_by": string | null;
          "revision": number;
          "rolled_back_to": number | null;
          "service_schema": string;
          "source": string;
          "started_at": string | null;
          "total_took": string | null;
          "waited": string | null;
        };
        ComputedFields: never;
        Relationships: [];
      };
      "worker_status": {
        Row: {
          "deployed_at": string | null;
          "deployment_status": string | null;
          "last_error": string | null;
          "last_error_code": string | null;
          "last_health_check": string | null;
          "next_attempt_at": string | null;
          "platform": string | null;
          "requested_at": string | null;
          "requested_by": string | null;
          "retry_count": number | null;
          "rolled_back_to": number | null;
          "running_revision": number | null;
          "service_name": string | null;
          "service_schema": string | null;
          "source": string | null;
          "state": string | null;
          "wanted": string | null;
          "wanted_revision": number | null;
          "worker_version": string | null;
        };
        ComputedFields: never;
        Relationships: [];
      };
    };
    Functions: {
      "abandon_attempts": { Args: { "deployment": string }; Returns: string };
      "append_log": { Args: { "line": string; "logs": string }; Returns: string };
      "as_deployments": {
        Args: { "deployments": Json };
        Returns: {
          "deployment_id": string;
          "error_code": string;
          "error_message": string;
          "lease_token": string;
          "manifest": Json;
          "manifest_sha256": string;
          "requested_at": string;
          "requested_by": string;
          "revision": number;
          "rolled_back_to": number;
          "service_schema": string;
          "source": string;
          "spec": Json;
          "spec_hash": string;
          "wanted": string;
        }[];
      };
      "as_listed_services": {
        Args: { "listed": Json };
        Returns: {
          "deployment_id": string;
          "id": string;
          "is_running": boolean;
          "platform_deployment_id": string;
          "service_schema": string;
        }[];
      };
      "attempts_before": {
        Args: { "deployment": string };
        Returns: {
          "abandoned": number;
          "counted": number;
          "deferrals": number;
          "rejected_deployment_ids": (string)[];
        }[];
      };
      "begin_attempt": { Args: { "deployment": string; "first_step": string; "token": string }; Returns: number };
      "check_code": {
        Args: Record<PropertyKey, never>;
        Returns: {
          "code": string;
          "missing_since": string;
          "service_schema": string;
        }[];
      };
      "count_left_attempts": { Args: { "deployment": string }; Returns: number };
      "count_pruned_objects": { Args: Record<PropertyKey, never>; Returns: number };
      "count_unused_code": { Args: Record<PropertyKey, never>; Returns: number };
      "count_waiting_intents": { Args: { "older_than_seconds"?: number }; Returns: number };
      "cut_text": { Args: { "most_bytes": number; "whole": string }; Returns: string };
      "end_silent_supervisor": { Args: { "platform_name": string }; Returns: boolean };
      "enqueue_deployments": {
        Args: { "deployments": Json };
        Returns: {
          "deployment_status": string;
          "is_newest": boolean;
          "revision": number;
          "service_schema": string;
        }[];
      };
      "explain_rollback_refusal": { Args: { "schema_name": string; "to_revision": number }; Returns: string };
      "fail_exhausted_intents": { Args: Record<PropertyKey, never>; Returns: undefined };
      "find_differences": {
        Args: Record<PropertyKey, never>;
        Returns: {
          "service_schema": string;
          "source": string;
          "wanted": string;
        }[];
      };
      "find_left_services": {
        Args: { "listed": Json; "listed_at": string };
        Returns: {
          "deployment_id": string;
          "revision": number;
          "service_schema": string;
          "source": string;
        }[];
      };
      "find_leftover_workers": {
        Args: { "listed": Json };
        Returns: {
          "deployment_id": string;
          "revision": number;
          "service_schema": string;
        }[];
      };
      "find_lost_services": {
        Args: { "listed": Json; "listed_at": string; "platform_name": string };
        Returns: {
          "deployment_id": string;
          "reason": string;
          "revision": number;
          "service_schema": string;
        }[];
      };
      "find_orphans": {
        Args: { "listed": Json; "platform_name": string };
        Returns: {
          "platform_service_id": string;
          "reason": string;
          "service_schema": string;
        }[];
      };
      "find_prunable": {
        Args: { "after_schema": string; "most": number; "services": number };
        Returns: {
          "deployment_id": string;
          "service_schema": string;
        }[];
      };
      "find_unused_code": {
        Args: { "most": number };
        Returns: {
          "code": string;
          "service_schema": string;
        }[];
      };
      "forget_pruned_objects": {
        Args: { "lease_token": string; "paths": (string)[]; "reason"?: string };
        Returns: number;
      };
      "forget_unused_code": {
        Args: { "lease_token": string; "paths": (string)[]; "reason"?: string };
        Returns: number;
      };
      "free_slots": { Args: { "platform_name": string }; Returns: number };
      "has_unwritten_attempt": { Args: { "deployment": string }; Returns: boolean };
      "hash_spec": { Args: { "options": Json; "service_name": string; "workflows": Json }; Returns: string };
      "is_due_again": { Args: { "code": string; "every_seconds": number; "schema_name": string }; Returns: boolean };
      "is_known_service": { Args: { "schema_name": string }; Returns: boolean };
      "is_under_way": { Args: { "schema_name": string }; Returns: boolean };
      "list_rollback_targets": { Args: { "most"?: number; "schema_name": string }; Returns: string };
      "lock_open_deployments": {
        Args: { "schema_name": string; "wait_until": string; "wanted": string };
        Returns: boolean;
      };
      "lock_services": { Args: Record<PropertyKey, never>; Returns: undefined };
      "lost_services_allowed": {
        Args: { "listed": Json; "listed_at": string; "most": number; "platform_name": string };
        Returns: number;
      };
      "manifest_object": {
        Args: { "manifest_sha256": string; "revision": number; "schema_name": string };
        Returns: string;
      };
      "oldest_suspect": { Args: { "suspect_from": number }; Returns: string };
      "past_of": {
        Args: { "before_revision": number; "deployment": string; "platform_name": string; "schema_name": string };
        Returns: {
          "abandoned": number;
          "counted": number;
          "deferrals": number;
          "has_served": boolean;
          "rejected_deployment_ids": (string)[];
          "service_id": string;
        }[];
      };
      "prune": { Args: { "batch_size"?: number }; Returns: number };
      "reconcile": { Args: Record<PropertyKey, never>; Returns: number };
      "reconcile_platform": {
        Args: {
          "every_seconds": number;
          "listed": Json;
          "listed_at": string;
          "most"?: number;
          "platform_name": string;
        };
        Returns: {
          "deployment_id": string;
          "finding": string;
          "platform_service_id": string;
          "reason": string;
          "revision": number;
          "service_schema": string;
        }[];
      };
      "record_health": {
        Args: { "platform_name": string; "seen": Json };
        Returns: {
          "revision": number;
          "seen_at": string;
          "service_schema": string;
        }[];
      };
      "record_intents": {
        Args: { "schemas": (string)[]; "sources": (string)[]; "wants": (string)[] };
        Returns: undefined;
      };
      "record_supervisor": {
        Args: { "deployer": string; "lease_seconds": number; "platform_name": string };
        Returns: undefined;
      };
      "redeploy_lost": {
        Args: { "every_seconds": number; "listed": Json; "listed_at": string; "most": number; "platform_name": string };
        Returns: {
          "reason": string;
          "revision": number;
          "service_schema": string;
        }[];
      };
      "release_intents": {
        Args: { "counts_as_try"?: boolean; "lease_token": string; "reason"?: string; "schemas": (string)[] };
        Returns: number;
      };
      "report_orphans": {
        Args: { "listed": Json; "platform_name": string };
        Returns: {
          "platform_service_id": string;
          "reason": string;
          "service_schema": string;
        }[];
      };
      "requesting_role": { Args: Record<PropertyKey, never>; Returns: string };
      "ring": { Args: Record<PropertyKey, never>; Returns: undefined };
      "served_before": {
        Args: { "before_revision": number; "platform_name": string; "schema_name": string };
        Returns: {
          "has_served": boolean;
          "service_id": string;
        }[];
      };
      "stop_left": {
        Args: { "every_seconds": number; "listed": Json; "listed_at": string; "most": number; "platform_name": string };
        Returns: {
          "reason": string;
          "revision": number;
          "service_schema": string;
        }[];
      };
      "supersede": { Args: { "by_revision": number; "schema_name": string; "wanted": string }; Returns: undefined };
      "take_health_turn": { Args: { "every_seconds": number; "platform_name": string }; Returns: boolean };
      "take_intents": {
        Args: { "batch_size"?: number; "lease_seconds"?: number };
        Returns: {
          "deployment_id": string;
          "lease_token": string;
          "requested_at": string;
          "requested_by": string;
          "revision": number;
          "rolled_back_to": number;
          "service_schema": string;
          "source": string;
          "spec": Json;
          "spec_hash": string;
          "wanted": string;
        }[];
      };
      "take_pruned_objects": {
        Args: { "batch_size"?: number; "lease_seconds"?: number };
        Returns: {
          "lease_token": string;
          "path": string;
        }[];
      };
      "take_reconcile_turn": { Args: { "every_seconds": number; "platform_name": string }; Returns: string };
      "take_unused_code": {
        Args: { "batch_size"?: number; "lease_seconds"?: number };
        Returns: {
          "lease_token": string;
          "path": string;
        }[];
      };
      "unlocked_intents": { Args: { "schemas": (string)[] }; Returns: (string)[] };
      "use_code": { Args: { "code": string; "service_schema": string }; Returns: boolean };
    };
    Enums: {
      [_ in never]: never;
    };
    CompositeTypes: {
      [_ in never]: never;
    };
  };
};

type DatabaseWithoutInternals = Omit<Database, "__InternalSupabase">;

type DefaultSchema = DatabaseWithoutInternals[Extract<keyof Database, "osp">];

export type Tables<
  DefaultSchemaTableNameOrOptions extends
    | keyof (DefaultSchema["Tables"] & DefaultSchema["Views"])
    | { schema: keyof DatabaseWithoutInternals },
  TableName extends DefaultSchemaTableNameOrOptions extends {
    schema: keyof DatabaseWithoutInternals;
  } ? keyof (
      & DatabaseWithoutInternals[DefaultSchemaTableNameOrOptions["schema"]]["Tables"]
      & DatabaseWithoutInternals[DefaultSchemaTableNameOrOptions["schema"]]["Views"]
    )
    : never = never,
> = DefaultSchemaTableNameOrOptions extends { schema: keyof DatabaseWithoutInternals } ? (
    & DatabaseWithoutInternals[DefaultSchemaTableNameOrOptions["schema"]]["Tables"]
    & DatabaseWithoutInternals[DefaultSchemaTableNameOrOptions["schema"]]["Views"]
  )[TableName] extends {
    Row: infer R;
  } ? R
  : never
  : DefaultSchemaTableNameOrOptions extends keyof (DefaultSchema["Tables"] & DefaultSchema["Views"])
    ? (DefaultSchema["Tables"] & DefaultSchema["Views"])[DefaultSchemaTableNameOrOptions] extends {
      Row: infer R;
    } ? R
    : never
  : never;

export type TablesInsert<
  DefaultSchemaTableNameOrOptions extends
    | keyof DefaultSchema["Tables"]
    | { schema: keyof DatabaseWithoutInternals },
  TableName extends DefaultSchemaTableNameOrOptions extends {
    schema: keyof DatabaseWithoutInternals;
  } ? keyof DatabaseWithoutInternals[DefaultSchemaTableNameOrOptions["schema"]]["Tables"]
    : never = never,
> = DefaultSchemaTableNameOrOptions extends { schema: keyof DatabaseWithoutInternals }
  ? DatabaseWithoutInternals[DefaultSchemaTableNameOrOptions["schema"]]["Tables"][TableName] extends {
    Insert: infer I;
  } ? I
  : never
  : DefaultSchemaTableNameOrOptions extends keyof DefaultSchema["Tables"]
    ? DefaultSchema["Tables"][DefaultSchemaTableNameOrOptions] extends {
      Insert: infer I;
    } ? I
    : never
  : never;

export type TablesUpdate<
  DefaultSchemaTableNameOrOptions extends
    | keyof DefaultSchema["Tables"]
    | { schema: keyof DatabaseWithoutInternals },
  TableName extends DefaultSchemaTableNameOrOptions extends {
    schema: keyof DatabaseWithoutInternals;
  } ? keyof DatabaseWithoutInternals[DefaultSchemaTableNameOrOptions["schema"]]["Tables"]
    : never = never,
> = DefaultSchemaTableNameOrOptions extends { schema: keyof DatabaseWithoutInternals }
  ? DatabaseWithoutInternals[DefaultSchemaTableNameOrOptions["schema"]]["Tables"][TableName] extends {
    Update: infer U;
  } ? U
  : never
  : DefaultSchemaTableNameOrOptions extends keyof DefaultSchema["Tables"]
    ? DefaultSchema["Tables"][DefaultSchemaTableNameOrOptions] extends {
      Update: infer U;
    } ? U
    : never
  : never;

export type Enums<
  DefaultSchemaEnumNameOrOptions extends
    | keyof DefaultSchema["Enums"]
    | { schema: keyof DatabaseWithoutInternals },
  EnumName extends DefaultSchemaEnumNameOrOptions extends {
    schema: keyof DatabaseWithoutInternals;
  } ? keyof DatabaseWithoutInternals[DefaultSchemaEnumNameOrOptions["schema"]]["Enums"]
    : never = never,
> = DefaultSchemaEnumNameOrOptions extends { schema: keyof DatabaseWithoutInternals }
  ? DatabaseWithoutInternals[DefaultSchemaEnumNameOrOptions["schema"]]["Enums"][EnumName]
  : DefaultSchemaEnumNameOrOptions extends keyof DefaultSchema["Enums"]
    ? DefaultSchema["Enums"][DefaultSchemaEnumNameOrOptions]
  : never;

export type CompositeTypes<
  PublicCompositeTypeNameOrOptions extends
    | keyof DefaultSchema["CompositeTypes"]
    | { schema: keyof DatabaseWithoutInternals },
  CompositeTypeName extends PublicCompositeTypeNameOrOptions extends {
    schema: keyof DatabaseWithoutInternals;
  } ? keyof DatabaseWithoutInternals[PublicCompositeTypeNameOrOptions["schema"]]["CompositeTypes"]
    : never = never,
> = PublicCompositeTypeNameOrOptions extends { schema: keyof DatabaseWithoutInternals }
  ? DatabaseWithoutInternals[PublicCompositeTypeNameOrOptions["schema"]]["CompositeTypes"][CompositeTypeName]
  : PublicCompositeTypeNameOrOptions extends keyof DefaultSchema["CompositeTypes"]
    ? DefaultSchema["CompositeTypes"][PublicCompositeTypeNameOrOptions]
  : never;

export const Constants = {
  "osp": {
    Enums: {},
  },
  "osp_metadata": {
    Enums: {},
  },
} as const;
