-- Purpose: what people ask: how is each service, and how did its deployments go.

set lock_timeout = '5s'; -- never a queue of writers behind a migration that waits

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
  i.source
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
) as running on true;
comment on view osp_metadata.worker_status is 'One row per service: what is wanted, what runs, how the newest deployment stands.';
comment on column osp_metadata.worker_status.service_schema is 'Name of the service.';
comment on column osp_metadata.worker_status.service_name is 'Its name for people; null: the service was deleted.';
comment on column osp_metadata.worker_status.wanted is 'run or stop.';
comment on column osp_metadata.worker_status.wanted_revision is 'Newest revision requested.';
comment on column osp_metadata.worker_status.running_revision is 'Revision whose worker serves now; null: none.';
comment on column osp_metadata.worker_status.state is 'waiting, starting, updating (an older revision runs), running, failed (an older one may run), stopping or stopped.';
comment on column osp_metadata.worker_status.deployment_status is 'Status of the newest row of worker_registry.';
comment on column osp_metadata.worker_status.retry_count is 'Attempts after its first.';
comment on column osp_metadata.worker_status.next_attempt_at is 'When it is tried again; null: at once, or it has ended.';
comment on column osp_metadata.worker_status.last_error_code is 'Short name of its last error; not_enqueued: the newest revision waits for the Edge Function, which met an obstacle.';
comment on column osp_metadata.worker_status.last_error is 'Its last error; of a revision that waits for the Edge Function, what is in its way and what to do.';
comment on column osp_metadata.worker_status.deployed_at is 'Since when the running revision serves.';
comment on column osp_metadata.worker_status.last_health_check is 'When the running worker was last seen polling.';
comment on column osp_metadata.worker_status.worker_version is 'Version of the running worker program.';
comment on column osp_metadata.worker_status.platform is 'Where it runs.';
comment on column osp_metadata.worker_status.requested_at is 'When the newest revision was requested.';
comment on column osp_metadata.worker_status.requested_by is 'Database role that requested it.';
comment on column osp_metadata.worker_status.source is 'What made it.';

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
  r.started_at - r.created_at as waited,
  coalesce(r.deployed_at, ended.at) - r.started_at as deploying_took,
  coalesce(r.deployed_at, ended.at) - r.created_at as total_took,
  ended.attempts,
  r.error_code,
  r.error_message
from osp_metadata.worker_registry as r
cross join lateral (
  select max(a.ended_at) as at, pg_catalog.count(*)::integer as attempts
  from osp_metadata.deployment_attempts as a
  where a.deployment_id = r.id
) as ended;
comment on view osp_metadata.deployment_history is 'Every deployment with how long it waited and took, newest not first: order by created_at.';
comment on column osp_metadata.deployment_history.deployment_id is 'The deployment: worker_registry.id.';
comment on column osp_metadata.deployment_history.service_schema is 'Name of the service.';
comment on column osp_metadata.deployment_history.revision is 'Its revision.';
comment on column osp_metadata.deployment_history.source is 'What made the revision.';
comment on column osp_metadata.deployment_history.requested_by is 'Database role that requested it.';
comment on column osp_metadata.deployment_history.deployment_status is 'How it stands.';
comment on column osp_metadata.deployment_history.created_at is 'When it was enqueued.';
comment on column osp_metadata.deployment_history.waited is 'From enqueued to first claimed.';
comment on column osp_metadata.deployment_history.deploying_took is 'From first claimed to serving, or to the end of its last attempt.';
comment on column osp_metadata.deployment_history.total_took is 'From enqueued to serving, or to the end of its last attempt.';
comment on column osp_metadata.deployment_history.attempts is 'Attempts made, uncounted ones included.';
comment on column osp_metadata.deployment_history.error_code is 'Short name of its last error.';
comment on column osp_metadata.deployment_history.error_message is 'Its last error.';
