-- Purpose: asking worker_status for what waits reads what waits, not every service that was ever seen.

set lock_timeout = '5s'; -- never a queue of writers behind a migration that waits

create or replace view osp_metadata.worker_status
with (security_invoker = on) as
select
  i.service_schema,
  s.service_name,
  i.wanted,
  i.revision as wanted_revision,
  running.revision as running_revision,
  i.state,
  i.deployment_status,
  i.retry_count,
  i.next_attempt_at,
  -- What keeps the newest revision from being enqueued is newer than what befell the one before it.
  case when i.last_error is null then i.error_code else 'not_enqueued' end as last_error_code,
  coalesce(i.last_error, i.error_message) as last_error,
  running.deployed_at,
  running.last_health_check,
  running.worker_version,
  running.platform,
  i.requested_at,
  i.requested_by,
  i.source
from (
  -- One branch for each state that takes a look at every service: the planner leaves out those whose state is not asked for.
  -- What waits and what is worked on is found by the indexes of just that.
  select
    i.service_schema, i.wanted, i.revision, i.requested_at, i.requested_by, i.source, i.last_error,
    newest.deployment_status, newest.retry_count, newest.next_attempt_at, newest.error_code, newest.error_message,
    'waiting' as state
  from osp_metadata.service_intents as i
  left join osp_metadata.worker_registry as newest
    on newest.service_schema = i.service_schema and newest.revision = i.enqueued_revision
  where i.revision > i.enqueued_revision

  union all

  select
    i.service_schema, i.wanted, i.revision, i.requested_at, i.requested_by, i.source, i.last_error,
    newest.deployment_status, newest.retry_count, newest.next_attempt_at, newest.error_code, newest.error_message,
    case
      when i.wanted = 'stop' then 'stopping'
      when exists (
        select from osp_metadata.worker_registry as older
        where older.service_schema = i.service_schema and older.deployment_status = 'deployed'
      ) then 'updating'
      else 'starting'
    end as state
  from (
    -- One status each, because each has an index of its own by service.
    select r.service_schema, r.revision, r.deployment_status, r.retry_count, r.next_attempt_at, r.error_code, r.error_message
    from osp_metadata.worker_registry as r
    where r.deployment_status = 'pending'
    union all
    select r.service_schema, r.revision, r.deployment_status, r.retry_count, r.next_attempt_at, r.error_code, r.error_message
    from osp_metadata.worker_registry as r
    where r.deployment_status = 'deploying'
  ) as newest
  inner join osp_metadata.service_intents as i
    on i.service_schema = newest.service_schema and i.enqueued_revision = newest.revision
  where i.revision = i.enqueued_revision

  union all

  select
    i.service_schema, i.wanted, i.revision, i.requested_at, i.requested_by, i.source, i.last_error,
    newest.deployment_status, newest.retry_count, newest.next_attempt_at, newest.error_code, newest.error_message,
    'running' as state
  from osp_metadata.service_intents as i
  inner join osp_metadata.worker_registry as newest
    on newest.service_schema = i.service_schema and newest.revision = i.enqueued_revision
  where i.revision = i.enqueued_revision and i.wanted = 'run' and newest.deployment_status = 'deployed'

  union all

  select
    i.service_schema, i.wanted, i.revision, i.requested_at, i.requested_by, i.source, i.last_error,
    newest.deployment_status, newest.retry_count, newest.next_attempt_at, newest.error_code, newest.error_message,
    'stopped' as state
  from osp_metadata.service_intents as i
  left join osp_metadata.worker_registry as newest
    on newest.service_schema = i.service_schema and newest.revision = i.enqueued_revision
  where
    i.revision = i.enqueued_revision
    and (newest.deployment_status = 'stopped' or (newest.id is null and i.wanted = 'stop'))

  union all

  -- Also what has lost its row of the registry: nothing is known to run, and reconcile makes a new revision of it.
  select
    i.service_schema, i.wanted, i.revision, i.requested_at, i.requested_by, i.source, i.last_error,
    newest.deployment_status, newest.retry_count, newest.next_attempt_at,
    coalesce(newest.error_code, 'registry_row_missing'),
    coalesce(newest.error_message, pg_catalog.format('worker_registry has no row of revision %s: it is deployed anew within a minute or two', i.revision)),
    'failed' as state
  from osp_metadata.service_intents as i
  left join osp_metadata.worker_registry as newest
    on newest.service_schema = i.service_schema and newest.revision = i.enqueued_revision
  where
    i.revision = i.enqueued_revision
    and (
      newest.deployment_status = 'failed'
      or (newest.id is null and i.wanted = 'run')
      or (newest.deployment_status = 'deployed' and i.wanted = 'stop')
    )
) as i
left join osp.services as s on s.service_schema = i.service_schema
left join lateral (
  select r.revision, r.deployed_at, r.last_health_check, r.worker_version, r.platform
  from osp_metadata.worker_registry as r
  where r.service_schema = i.service_schema and r.deployment_status = 'deployed'
  order by r.revision desc
  limit 1
) as running on true;
comment on column osp_metadata.worker_status.last_error_code is 'Short name of its last error; not_enqueued: the newest revision waits for the Edge Function, which met an obstacle; registry_row_missing: worker_registry has lost its row.';
