-- Purpose: asking worker_status for what is under way reads what is under way, and for who fell silent whom it concerns, never
-- every service that was ever seen; and what has lost its row of the registry is told as such, also where an older row is left.

set lock_timeout = '5s'; -- never a queue of writers behind a migration that waits

-- Of those who want a stop the few are looked for that run all the same.
-- squawk-ignore require-concurrent-index-creation
create index if not exists service_intents_stop_idx on osp_metadata.service_intents (service_schema)
where wanted = 'stop';

-- Look-ups are written with a limit: a join would be planned as a reading of the whole table, because the planner believes that
-- a third of all intents wait.
create or replace view osp_metadata.worker_status
with (security_invoker = on) as
-- What waits for the Edge Function, by the index of just that.
select
  i.service_schema,
  s.service_name,
  i.wanted,
  i.revision as wanted_revision,
  running.revision as running_revision,
  'waiting'::text as state,
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
left join lateral (
  select s.service_name from osp.services as s where s.service_schema = i.service_schema limit 1
) as s on true
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
where i.revision > i.enqueued_revision

union all

-- What waits for a deployer or is being worked on, by the indexes of just that. Of a stop, whichever revision that is.
select
  i.service_schema,
  s.service_name,
  i.wanted,
  i.revision as wanted_revision,
  running.revision as running_revision,
  case
    when i.wanted = 'stop' then 'stopping'
    when running.id is null then 'starting'
    else 'updating'
  end as state,
  requested.deployment_status,
  requested.retry_count,
  requested.next_attempt_at,
  case
    when i.last_error is not null then 'not_enqueued'
    when requested.id is null then 'registry_row_missing'
    else requested.error_code
  end as last_error_code,
  coalesce(i.last_error, case
    when requested.id is null
      then pg_catalog.format('worker_registry has no row of revision %s: it is stopped again when its platform is next compared with the registry', i.revision)
    else requested.error_message
  end) as last_error,
  running.deployed_at,
  running.last_health_check,
  running.worker_version,
  running.platform,
  i.requested_at,
  i.requested_by,
  i.source,
  i.rolled_back_to
from (
  -- One status each, because each has an index of its own by service.
  select r.service_schema from osp_metadata.worker_registry as r where r.deployment_status = 'pending'
  union
  select r.service_schema from osp_metadata.worker_registry as r where r.deployment_status = 'deploying'
) as under_way
inner join osp_metadata.service_intents as i on i.service_schema = under_way.service_schema
left join lateral (
  select s.service_name from osp.services as s where s.service_schema = i.service_schema limit 1
) as s on true
left join lateral (
  select r.* from osp_metadata.worker_registry as r
  where r.service_schema = i.service_schema and r.revision = i.revision
  limit 1
) as requested on true
left join lateral (
  select r.* from osp_metadata.worker_registry as r
  where r.service_schema = i.service_schema and r.deployment_status = 'deployed'
  order by r.revision desc
  limit 1
) as running on true
where i.revision = i.enqueued_revision and (i.wanted = 'stop' or requested.deployment_status in ('pending', 'deploying'))

union all

-- All others: a branch for each state, so that the planner leaves out those that are not asked for. What runs is joined, so that
-- those who fell silent are found by the index of just that. No older row speaks for the revision that was requested.
select
  i.service_schema,
  s.service_name,
  i.wanted,
  i.revision as wanted_revision,
  running.revision as running_revision,
  'running'::text as state,
  requested.deployment_status,
  requested.retry_count,
  requested.next_attempt_at,
  case when i.last_error is null then requested.error_code else 'not_enqueued' end as last_error_code,
  coalesce(i.last_error, requested.error_message) as last_error,
  running.deployed_at,
  running.last_health_check,
  running.worker_version,
  running.platform,
  i.requested_at,
  i.requested_by,
  i.source,
  i.rolled_back_to
from osp_metadata.service_intents as i
left join lateral (
  select s.service_name from osp.services as s where s.service_schema = i.service_schema limit 1
) as s on true
left join lateral (
  select r.* from osp_metadata.worker_registry as r
  where r.service_schema = i.service_schema and r.revision = i.revision
  limit 1
) as requested on true
inner join osp_metadata.worker_registry as running
  on running.service_schema = i.service_schema and running.deployment_status = 'deployed'
  and not exists (
    select from osp_metadata.worker_registry as newer
    where newer.service_schema = running.service_schema and newer.deployment_status = 'deployed' and newer.revision > running.revision
  )
where
  i.revision = i.enqueued_revision
  and i.wanted = 'run'
  and (
    requested.deployment_status = 'deployed'
    -- The intents are from an older backup: reconcile numbers on from what runs.
    or (running.revision > i.revision and coalesce(requested.deployment_status not in ('pending', 'deploying'), true))
  )

union all

-- What is to stop and runs on, though nobody is at work on it: its stop was lost with its row, or has ended without an end.
select
  i.service_schema,
  s.service_name,
  i.wanted,
  i.revision as wanted_revision,
  running.revision as running_revision,
  'stopping'::text as state,
  requested.deployment_status,
  requested.retry_count,
  requested.next_attempt_at,
  case
    when i.last_error is not null then 'not_enqueued'
    when requested.id is null then 'registry_row_missing'
    else requested.error_code
  end as last_error_code,
  coalesce(i.last_error, case
    when requested.id is null
      then pg_catalog.format('worker_registry has no row of revision %s: it is stopped again when its platform is next compared with the registry', i.revision)
    else requested.error_message
  end) as last_error,
  running.deployed_at,
  running.last_health_check,
  running.worker_version,
  running.platform,
  i.requested_at,
  i.requested_by,
  i.source,
  i.rolled_back_to
from osp_metadata.service_intents as i
left join lateral (
  select s.service_name from osp.services as s where s.service_schema = i.service_schema limit 1
) as s on true
left join lateral (
  select r.* from osp_metadata.worker_registry as r
  where r.service_schema = i.service_schema and r.revision = i.revision
  limit 1
) as requested on true
inner join osp_metadata.worker_registry as running
  on running.service_schema = i.service_schema and running.deployment_status = 'deployed'
  and not exists (
    select from osp_metadata.worker_registry as newer
    where newer.service_schema = running.service_schema and newer.deployment_status = 'deployed' and newer.revision > running.revision
  )
where
  i.revision = i.enqueued_revision
  and i.wanted = 'stop'
  and requested.deployment_status is distinct from 'failed'
  and not exists (
    select from osp_metadata.worker_registry as r
    where r.service_schema = i.service_schema and r.deployment_status in ('pending', 'deploying')
  )

union all

select
  i.service_schema,
  s.service_name,
  i.wanted,
  i.revision as wanted_revision,
  running.revision as running_revision,
  'stopped'::text as state,
  requested.deployment_status,
  requested.retry_count,
  requested.next_attempt_at,
  case when i.last_error is null then requested.error_code else 'not_enqueued' end as last_error_code,
  coalesce(i.last_error, requested.error_message) as last_error,
  running.deployed_at,
  running.last_health_check,
  running.worker_version,
  running.platform,
  i.requested_at,
  i.requested_by,
  i.source,
  i.rolled_back_to
from osp_metadata.service_intents as i
left join lateral (
  select s.service_name from osp.services as s where s.service_schema = i.service_schema limit 1
) as s on true
left join lateral (
  select r.* from osp_metadata.worker_registry as r
  where r.service_schema = i.service_schema and r.revision = i.revision
  limit 1
) as requested on true
left join osp_metadata.worker_registry as running
  on running.service_schema = i.service_schema and running.deployment_status = 'deployed'
  and not exists (
    select from osp_metadata.worker_registry as newer
    where newer.service_schema = running.service_schema and newer.deployment_status = 'deployed' and newer.revision > running.revision
  )
where
  i.revision = i.enqueued_revision
  and (
    (i.wanted = 'run' and requested.deployment_status = 'stopped' and (running.revision > i.revision) is not true)
    or (
      i.wanted = 'stop' and running.id is null
      and not exists (
        select from osp_metadata.worker_registry as r
        where r.service_schema = i.service_schema and r.deployment_status in ('pending', 'deploying')
      )
    )
  )
  -- Of a service that was deleted and pruned only the number is left, so that it is never given twice.
  and not (
    i.source = 'delete'
    and not exists (select from osp_metadata.worker_registry as r where r.service_schema = i.service_schema)
  )

union all

-- Also what has lost its row of the registry: nothing is known of what was requested, and reconcile makes a new revision of it.
select
  i.service_schema,
  s.service_name,
  i.wanted,
  i.revision as wanted_revision,
  running.revision as running_revision,
  'failed'::text as state,
  requested.deployment_status,
  requested.retry_count,
  requested.next_attempt_at,
  case
    when i.last_error is not null then 'not_enqueued'
    when requested.id is null then 'registry_row_missing'
    else requested.error_code
  end as last_error_code,
  coalesce(i.last_error, case
    when requested.id is null
      then pg_catalog.format('worker_registry has no row of revision %s: it is deployed anew within a minute or two', i.revision)
    else requested.error_message
  end) as last_error,
  running.deployed_at,
  running.last_health_check,
  running.worker_version,
  running.platform,
  i.requested_at,
  i.requested_by,
  i.source,
  i.rolled_back_to
from osp_metadata.service_intents as i
left join lateral (
  select s.service_name from osp.services as s where s.service_schema = i.service_schema limit 1
) as s on true
left join lateral (
  select r.* from osp_metadata.worker_registry as r
  where r.service_schema = i.service_schema and r.revision = i.revision
  limit 1
) as requested on true
left join osp_metadata.worker_registry as running
  on running.service_schema = i.service_schema and running.deployment_status = 'deployed'
  and not exists (
    select from osp_metadata.worker_registry as newer
    where newer.service_schema = running.service_schema and newer.deployment_status = 'deployed' and newer.revision > running.revision
  )
where
  i.revision = i.enqueued_revision
  and (
    (
      i.wanted = 'run' and (requested.id is null or requested.deployment_status = 'failed')
      and (running.revision > i.revision) is not true
    )
    or (
      i.wanted = 'stop' and requested.deployment_status = 'failed' and running.id is not null
      and not exists (
        select from osp_metadata.worker_registry as r
        where r.service_schema = i.service_schema and r.deployment_status in ('pending', 'deploying')
      )
    )
  );
comment on column osp_metadata.worker_status.last_error_code is 'Short name of its last error; not_enqueued: the newest revision waits for the Edge Function, which met an obstacle; registry_row_missing: worker_registry has lost its row.';
