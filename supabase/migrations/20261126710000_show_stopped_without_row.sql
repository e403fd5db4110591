-- Purpose: worker_status calls a disabled service stopped, not waiting, where the registry was emptied since: nothing waits.

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
    when i.wanted = 'stop' and running.id is null and coalesce(newest.deployment_status, 'stopped') not in ('pending', 'deploying')
      then 'stopped'
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
