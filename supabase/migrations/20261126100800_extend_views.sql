-- Purpose: history from the request on, whatever made it, and a status that knows of pruned services.

set lock_timeout = '5s'; -- never a queue of writers behind a migration that waits

create or replace view osp_metadata.deployment_history
with (security_invoker = on) as
select
  r.id as deployment_id,
  r.service_schema,
  r.revision,
  r.source,
  r.requested_by,
  r.deployment_status,
  r.created_at,
  r.started_at - coalesce(r.requested_at, r.created_at) as waited,
  coalesce(r.deployed_at, ended.at) - r.started_at as deploying_took,
  coalesce(r.deployed_at, ended.at) - coalesce(r.requested_at, r.created_at) as total_took,
  ended.attempts,
  r.error_code,
  r.error_message,
  r.rolled_back_to,
  r.requested_at,
  r.created_at - r.requested_at as enqueuing_took,
  r.started_at,
  r.deployed_at,
  case when r.deployment_status in ('failed', 'stopped') then coalesce(r.stopped_at, ended.at, r.created_at) end as ended_at,
  ended.deployers
from osp_metadata.worker_registry as r
cross join lateral (
  select
    max(a.ended_at) as at,
    pg_catalog.count(*)::integer as attempts,
    pg_catalog.array_agg(distinct a.deployer) as deployers
  from osp_metadata.deployment_attempts as a
  where a.deployment_id = r.id
) as ended;
comment on view osp_metadata.deployment_history is 'Every deployment: who and what requested it, how long it waited and took, and how it ended. Newest not first: order by created_at.';
comment on column osp_metadata.deployment_history.source is 'What made the revision: insert, update, enable, disable, delete, redeploy, rollback or reconcile.';
comment on column osp_metadata.deployment_history.requested_by is 'Database role that requested it; service_role: through the Data API.';
comment on column osp_metadata.deployment_history.created_at is 'When it was enqueued: the Edge Function had built its manifest.';
comment on column osp_metadata.deployment_history.waited is 'From requested to first claimed by a deployer.';
comment on column osp_metadata.deployment_history.total_took is 'From requested to serving, or to the end of its last attempt.';
comment on column osp_metadata.deployment_history.rolled_back_to is 'Revision whose spec it brought back; null: it is no rollback.';
comment on column osp_metadata.deployment_history.requested_at is 'When it was requested; null: enqueued before that was recorded, and its durations begin with created_at.';
comment on column osp_metadata.deployment_history.enqueuing_took is 'From requested to enqueued, a part of waited.';
comment on column osp_metadata.deployment_history.started_at is 'When a deployer first claimed it; null: none did.';
comment on column osp_metadata.deployment_history.deployed_at is 'When its worker was first seen serving; null: it was not.';
comment on column osp_metadata.deployment_history.ended_at is 'When it ended as failed or stopped; null: it goes on.';
comment on column osp_metadata.deployment_history.deployers is 'Deployers that tried it, host and process each; null: none did.';

create or replace view osp_metadata.worker_status
with (security_invoker = on) as
select
  i.service_schema,
  s.service_name,
  i.wanted,
  i.revision as wanted_revision,
  running.revision as running_revision,
  case
    when i.revision > i.enqueued_revision then 'waiting'
    when i.wanted = 'stop' and running.id is null and newest.deployment_status not in ('pending', 'deploying') then 'stopped'
    when i.wanted = 'stop' and newest.deployment_status <> 'failed' then 'stopping'
    when running.revision = i.revision then 'running'
    when newest.deployment_status in ('pending', 'deploying') and running.id is null then 'starting'
    when newest.deployment_status in ('pending', 'deploying') then 'updating'
    else coalesce(newest.deployment_status, 'waiting')
  end as state,
  newest.deployment_status,
  newest.retry_count,
  newest.next_attempt_at,
  -- What keeps the newest revision from being enqueued is newer than what befell the one before it.
  case when i.last_error is null then newest.error_code else 'not_enqueued' end as last_error_code,
  coalesce(i.last_error, newest.error_message) as last_error,
  running.deployed_at,
  running.last_health_check,
  running.worker_version,
  running.platform,
  i.requested_at,
  i.requested_by,
  i.source,
  i.rolled_back_to
from osp_metadata.service_intents as i
left join osp.services as s on s.service_schema = i.service_schema
left join lateral (
  select r.* from osp_metadata.worker_registry as r
  where r.service_schema = i.service_schema
  order by r.revision desc
  limit 1
) as newest on true
left join lateral (
  select r.* from osp_metadata.worker_registry as r
  where r.service_schema = i.service_schema and r.deployment_status = 'deployed'
  order by r.revision desc
  limit 1
) as running on true
-- Of a service that was deleted and pruned only the number is left, so that it is never given twice.
where not (i.source = 'delete' and i.revision = i.enqueued_revision and newest.id is null);
comment on view osp_metadata.worker_status is 'One row per service: what is wanted, what runs, how the newest deployment stands. A deleted one stays until its deployments are pruned.';
comment on column osp_metadata.worker_status.requested_by is 'Database role that requested it; service_role: through the Data API.';
comment on column osp_metadata.worker_status.rolled_back_to is 'Revision whose spec it brings back; null: it is no rollback.';
