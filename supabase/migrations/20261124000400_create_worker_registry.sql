-- Purpose: worker_registry, the product's face: one row per revision on its way to running, or to being stopped.

set lock_timeout = '5s'; -- never a queue of writers behind a migration that waits

create table if not exists osp_metadata.worker_registry (
  id uuid not null default gen_random_uuid(),
  service_schema text not null,
  manifest_path text not null,
  deployment_status text not null default 'pending',
  deployed_at timestamptz,
  logs text,
  retry_count integer default 0,
  last_health_check timestamptz,
  worker_version text,
  service_id uuid,
  revision integer not null,
  source text not null,
  requested_by text,
  spec jsonb,
  spec_hash text,
  manifest jsonb,
  manifest_sha256 text,
  created_at timestamptz not null default clock_timestamp(),
  started_at timestamptz,
  next_attempt_at timestamptz,
  lease_owner text,
  lease_token uuid,
  lease_expires_at timestamptz,
  stop_requested_at timestamptz,
  stopped_at timestamptz,
  error_code text,
  error_message text,
  platform text,
  platform_service_id text,
  platform_deployment_id text,
  constraint worker_registry_pkey primary key (id),
  constraint worker_registry_service_schema_revision_key unique (service_schema, revision),
  constraint worker_registry_status_check check (deployment_status in ('pending', 'deploying', 'deployed', 'failed', 'stopped')),
  constraint worker_registry_deployed_at_check check (deployment_status <> 'deployed' or deployed_at is not null),
  constraint worker_registry_lease_check check ((deployment_status = 'deploying') = (lease_token is not null))
);
comment on table osp_metadata.worker_registry is 'Deployments: one row per revision of a service. pending → deploying → deployed, failed or stopped; a row that ended never reopens.';
comment on column osp_metadata.worker_registry.id is 'The deployment. Allocated with the request, so whoever made it knows it at once.';
comment on column osp_metadata.worker_registry.service_schema is 'Name of the service.';
comment on column osp_metadata.worker_registry.manifest_path is 'What the worker is started with: manifests/<service_schema>.json.';
comment on column osp_metadata.worker_registry.deployment_status is 'pending (waits), deploying (a deployer has it), deployed (its worker serves), failed (see error_message), stopped (ended on purpose or replaced).';
comment on column osp_metadata.worker_registry.deployed_at is 'When its worker was first seen serving its task queues; null until then.';
comment on column osp_metadata.worker_registry.logs is 'What happened, a line each, newest last; bounded to about 64 KiB.';
comment on column osp_metadata.worker_registry.retry_count is 'Attempts after the first.';
comment on column osp_metadata.worker_registry.last_health_check is 'When its worker was last seen polling; null: never yet.';
comment on column osp_metadata.worker_registry.worker_version is 'Version of the worker program that serves it, as Temporal reports it.';
comment on column osp_metadata.worker_registry.service_id is 'osp.services.id of the row it was made from; that row may be gone.';
comment on column osp_metadata.worker_registry.revision is 'Number of the revision: 1, 2, 3 … per service.';
comment on column osp_metadata.worker_registry.source is 'What made the revision: insert, update, enable, disable, delete, redeploy, rollback or reconcile.';
comment on column osp_metadata.worker_registry.requested_by is 'Database role that requested it.';
comment on column osp_metadata.worker_registry.spec is 'The row of osp.services it was made from; null for a deleted one. Numbers as JavaScript holds them.';
comment on column osp_metadata.worker_registry.spec_hash is 'Hash of what that row said to its worker, by which a change is found that no trigger saw; null: not known, counts as unchanged.';
comment on column osp_metadata.worker_registry.manifest is 'What its worker runs from; null where it wants a stop or was refused.';
comment on column osp_metadata.worker_registry.manifest_sha256 is 'SHA-256 of the manifest in canonical form (RFC 8785), 64 hex digits.';
comment on column osp_metadata.worker_registry.created_at is 'When it was enqueued.';
comment on column osp_metadata.worker_registry.started_at is 'When a deployer first claimed it.';
comment on column osp_metadata.worker_registry.next_attempt_at is 'Not claimed before; null: at once.';
comment on column osp_metadata.worker_registry.lease_owner is 'Deployer that has it now.';
comment on column osp_metadata.worker_registry.lease_token is 'The right to settle it; changes with every claim.';
comment on column osp_metadata.worker_registry.lease_expires_at is 'Until when, if it is not renewed.';
comment on column osp_metadata.worker_registry.stop_requested_at is 'When it was asked to stop: by a newer revision, a disable or a delete.';
comment on column osp_metadata.worker_registry.stopped_at is 'When it ended as stopped.';
comment on column osp_metadata.worker_registry.error_code is 'Short name of the last error, for grouping; null: none.';
comment on column osp_metadata.worker_registry.error_message is 'The last error: what failed, with which value, what to do.';
comment on column osp_metadata.worker_registry.platform is 'Where it runs: local or railway; null until a deployer claimed it.';
comment on column osp_metadata.worker_registry.platform_service_id is 'Its service there.';
comment on column osp_metadata.worker_registry.platform_deployment_id is 'Its deployment there.';

create index if not exists idx_worker_registry_service_schema on osp_metadata.worker_registry (service_schema);
create index if not exists idx_worker_registry_status on osp_metadata.worker_registry (deployment_status);
-- At most one row of a service waits and one is worked on: the newest wins, and two deployers cannot work on one service.
create unique index if not exists worker_registry_pending_key on osp_metadata.worker_registry (service_schema)
where deployment_status = 'pending';
create unique index if not exists worker_registry_deploying_key on osp_metadata.worker_registry (service_schema)
where deployment_status = 'deploying';
-- The claim reads the oldest of the few that wait, however many have ended.
create index if not exists worker_registry_claim_idx on osp_metadata.worker_registry (created_at, id)
where deployment_status in ('pending', 'deploying');

alter table osp_metadata.worker_registry enable row level security;

create table if not exists osp_metadata.deployment_attempts (
  id bigint generated always as identity,
  deployment_id uuid not null,
  service_schema text not null,
  revision integer not null,
  attempt integer not null,
  deployer text not null,
  step text not null default 'claimed',
  started_at timestamptz not null default clock_timestamp(),
  ended_at timestamptz,
  outcome text,
  error_class text,
  error_code text,
  error_message text,
  exit_code integer,
  log_tail text,
  constraint deployment_attempts_pkey primary key (id),
  constraint deployment_attempts_deployment_id_fkey foreign key (deployment_id)
  references osp_metadata.worker_registry (id) on delete cascade,
  constraint deployment_attempts_outcome_check check (
    outcome in ('deployed', 'stopped', 'superseded', 'retry', 'failed', 'deferred', 'throttled', 'abandoned', 'handed_back')
  ),
  constraint deployment_attempts_ended_check check ((outcome is null) = (ended_at is null))
);
comment on table osp_metadata.deployment_attempts is 'Every try at a deployment, kept as history.';
comment on column osp_metadata.deployment_attempts.id is 'Order in which attempts began.';
comment on column osp_metadata.deployment_attempts.deployment_id is 'The deployment: worker_registry.id.';
comment on column osp_metadata.deployment_attempts.service_schema is 'Name of the service.';
comment on column osp_metadata.deployment_attempts.revision is 'Its revision.';
comment on column osp_metadata.deployment_attempts.attempt is 'Number of the attempt, from 1. One that does not count (deferred, throttled, abandoned, handed_back) shares its number with the next.';
comment on column osp_metadata.deployment_attempts.deployer is 'Who tried: host and process.';
comment on column osp_metadata.deployment_attempts.step is 'How far it came: claimed, staging, deploying, readiness or stopping.';
comment on column osp_metadata.deployment_attempts.started_at is 'When it began.';
comment on column osp_metadata.deployment_attempts.ended_at is 'When it ended; null: it goes on.';
comment on column osp_metadata.deployment_attempts.outcome is 'deployed, stopped, superseded, retry (another follows), failed; uncounted: deferred, throttled, abandoned (its deployer went away), handed_back (its deployer was told to stop).';
comment on column osp_metadata.deployment_attempts.error_class is 'permanent, transient, unavailable or throttled; null: no error.';
comment on column osp_metadata.deployment_attempts.error_code is 'Short name of the error, for grouping.';
comment on column osp_metadata.deployment_attempts.error_message is 'What failed, with which value, what to do.';
comment on column osp_metadata.deployment_attempts.exit_code is 'Exit code of the worker or of the platform''s tool, where there was one.';
comment on column osp_metadata.deployment_attempts.log_tail is 'End of the worker''s or the platform''s output, where it failed.';

create index if not exists deployment_attempts_deployment_id_idx on osp_metadata.deployment_attempts (deployment_id, id);

alter table osp_metadata.deployment_attempts enable row level security;

create table if not exists osp_metadata.platforms (
  name text not null,
  instance uuid not null default gen_random_uuid(),
  paused_at timestamptz,
  pause_reason text,
  paused_by text,
  probed_at timestamptz,
  window_started_at timestamptz,
  window_requests integer not null default 0,
  window_quota integer,
  throttled_until timestamptz,
  supervisor text,
  supervised_at timestamptz,
  constraint platforms_pkey primary key (name),
  constraint platforms_paused_check check ((paused_at is null) = (pause_reason is null))
);
comment on table osp_metadata.platforms is 'Where workers run, one row each.';
comment on column osp_metadata.platforms.name is 'local or railway.';
comment on column osp_metadata.platforms.instance is 'Marker (OSP_INSTANCE) on everything that this database''s deployers make there; nothing without it is touched.';
comment on column osp_metadata.platforms.paused_at is 'Since when no deployer uses it; null: in use.';
comment on column osp_metadata.platforms.pause_reason is 'Why it is paused and what to do.';
comment on column osp_metadata.platforms.paused_by is 'Deployer that paused it and goes on by itself once the platform lets it in again; null: a person did, and ends it.';
comment on column osp_metadata.platforms.probed_at is 'When a deployer last tried whether the pause can end.';
comment on column osp_metadata.platforms.window_started_at is 'Begin of the hour that requests are counted in.';
comment on column osp_metadata.platforms.window_requests is 'Requests to the platform since then.';
comment on column osp_metadata.platforms.window_quota is 'Most requests that the deployers allow themselves in that hour; null: none was made yet.';
comment on column osp_metadata.platforms.throttled_until is 'Until when the platform itself told us to wait; null: it never did.';
comment on column osp_metadata.platforms.supervisor is 'Deployer that looks after the child processes of platform local: host and process.';
comment on column osp_metadata.platforms.supervised_at is 'Since when.';

alter table osp_metadata.platforms enable row level security;

insert into osp_metadata.platforms (name) values ('local'), ('railway') on conflict (name) do nothing;

create or replace function osp_metadata.append_log(logs text, line text)
returns text
language sql
volatile
set search_path = ''
as $$
  -- The oldest lines go first; an analyst reads the end.
  select pg_catalog.right(
    pg_catalog.concat_ws(
      E'\n',
      logs,
      pg_catalog.to_char(pg_catalog.clock_timestamp() at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') || ' ' || pg_catalog.left(line, 16384)
    ),
    65536
  );
$$;
comment on function osp_metadata.append_log is 'A log with one more line, stamped by the database''s clock, bounded to 65536 characters.';
