-- Purpose: asking worker_status for what is under way reads what is under way, and for who fell silent whom it concerns, never
-- every service that was ever seen; and what has lost its row of the registry is told as such.

set lock_timeout = '5s'; -- never a queue of writers behind a migration that waits

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

-- What waits for a deployer or is being worked on, by the indexes of just that.
select
  i.service_schema,
  s.service_name,
  i.wanted,
  i.revision as wanted_revision,
  running.revision as running_revision,
  case
    when i.wanted = 'stop' then 'stopping'
    when running.revision = i.revision then 'running'
    when running.id is null then 'starting'
    else 'updating'
  end as state,
  newest.deployment_status,
  newest.retry_count,
  newest.next_attempt_at,
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
where i.revision = i.enqueued_revision and newest.deployment_status in ('pending', 'deploying')

union all

-- All others: a branch for each state, so that the planner leaves out those that are not asked for. What runs is joined, so that
-- those who fell silent are found by the index of just that.
select
  i.service_schema,
  s.service_name,
  i.wanted,
  i.revision as wanted_revision,
  running.revision as running_revision,
  'running'::text as state,
  newest.deployment_status,
  newest.retry_count,
  newest.next_attempt_at,
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
inner join osp_metadata.worker_registry as running
  on running.service_schema = i.service_schema and running.deployment_status = 'deployed'
  and not exists (
    select from osp_metadata.worker_registry as newer
    where newer.service_schema = running.service_schema and newer.deployment_status = 'deployed' and newer.revision > running.revision
  )
where
  i.revision = i.enqueued_revision
  and (running.revision = i.revision or running.revision = newest.revision)
  and newest.deployment_status not in ('pending', 'deploying')

union all

select
  i.service_schema,
  s.service_name,
  i.wanted,
  i.revision as wanted_revision,
  running.revision as running_revision,
  'stopped'::text as state,
  newest.deployment_status,
  newest.retry_count,
  newest.next_attempt_at,
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
left join osp_metadata.worker_registry as running
  on running.service_schema = i.service_schema and running.deployment_status = 'deployed'
  and not exists (
    select from osp_metadata.worker_registry as newer
    where newer.service_schema = running.service_schema and newer.deployment_status = 'deployed' and newer.revision > running.revision
  )
where
  i.revision = i.enqueued_revision
  and (
    (i.wanted = 'stop' and running.id is null and (newest.id is null or newest.deployment_status not in ('pending', 'deploying')))
    or (newest.deployment_status = 'stopped' and running.revision is distinct from i.revision)
  )
  -- Of a service that was deleted and pruned only the number is left, so that it is never given twice.
  and not (i.source = 'delete' and newest.id is null)

union all

-- Also what has lost its row of the registry: nothing is known to run, and reconcile makes a new revision of it.
select
  i.service_schema,
  s.service_name,
  i.wanted,
  i.revision as wanted_revision,
  running.revision as running_revision,
  'failed'::text as state,
  newest.deployment_status,
  newest.retry_count,
  newest.next_attempt_at,
  case
    when i.last_error is not null then 'not_enqueued'
    when newest.id is null then 'registry_row_missing'
    else newest.error_code
  end as last_error_code,
  coalesce(i.last_error, case
    when newest.id is null
      then pg_catalog.format('worker_registry has no row of revision %s: it is deployed anew within a minute or two', i.revision)
    else newest.error_message
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
  where r.service_schema = i.service_schema
  order by r.revision desc
  limit 1
) as newest on true
left join osp_metadata.worker_registry as running
  on running.service_schema = i.service_schema and running.deployment_status = 'deployed'
  and not exists (
    select from osp_metadata.worker_registry as newer
    where newer.service_schema = running.service_schema and newer.deployment_status = 'deployed' and newer.revision > running.revision
  )
where
  i.revision = i.enqueued_revision
  and not (i.wanted = 'stop' and running.id is null)
  and running.revision is distinct from i.revision
  and (newest.id is null or newest.deployment_status = 'failed');
comment on column osp_metadata.worker_status.last_error_code is 'Short name of its last error; not_enqueued: the newest revision waits for the Edge Function, which met an obstacle; registry_row_missing: worker_registry has lost its row.';
