-- Purpose: asking worker_status for what is under way reads what is under way, not every service that was ever seen; and what
-- has lost its row of the registry is told as such.

set lock_timeout = '5s'; -- never a queue of writers behind a migration that waits

create or replace view osp_metadata.worker_status
with (security_invoker = on) as
select
  i.service_schema,
  s.service_name,
  i.wanted,
  i.revision as wanted_revision,
  stands.running_revision,
  stands.state,
  stands.deployment_status,
  stands.retry_count,
  stands.next_attempt_at,
  -- What keeps the newest revision from being enqueued is newer than what befell the one before it.
  case when i.last_error is null then stands.error_code else 'not_enqueued' end as last_error_code,
  coalesce(i.last_error, stands.error_message) as last_error,
  stands.deployed_at,
  stands.last_health_check,
  stands.worker_version,
  stands.platform,
  i.requested_at,
  i.requested_by,
  i.source,
  i.rolled_back_to
from (
  -- What waits for the Edge Function, by the index of just that.
  select
    i.service_schema, 'waiting'::text as state,
    newest.deployment_status, newest.retry_count, newest.next_attempt_at, newest.error_code, newest.error_message,
    running.revision as running_revision, running.deployed_at, running.last_health_check, running.worker_version, running.platform
  from osp_metadata.service_intents as i
  left join osp_metadata.worker_registry as running
    on running.service_schema = i.service_schema and running.deployment_status = 'deployed'
    and not exists (
      select from osp_metadata.worker_registry as newer
      where newer.service_schema = running.service_schema and newer.deployment_status = 'deployed' and newer.revision > running.revision
    )
  left join lateral (
    select r.* from osp_metadata.worker_registry as r
    where r.service_schema = i.service_schema
    order by r.revision desc
    limit 1
  ) as newest on true
  where i.revision > i.enqueued_revision

  union all

  -- What waits for a deployer or is being worked on, by the indexes of just that.
  select
    i.service_schema,
    case
      when i.wanted = 'stop' and newest.deployment_status <> 'failed' then 'stopping'
      when running.revision = i.revision then 'running'
      when newest.deployment_status in ('pending', 'deploying') and running.id is null then 'starting'
      when newest.deployment_status in ('pending', 'deploying') then 'updating'
      else newest.deployment_status
    end,
    newest.deployment_status, newest.retry_count, newest.next_attempt_at, newest.error_code, newest.error_message,
    running.revision, running.deployed_at, running.last_health_check, running.worker_version, running.platform
  from (
    -- One status each, because each has an index of its own by service.
    select r.service_schema from osp_metadata.worker_registry as r where r.deployment_status = 'pending'
    union
    select r.service_schema from osp_metadata.worker_registry as r where r.deployment_status = 'deploying'
  ) as under_way
  inner join osp_metadata.service_intents as i on i.service_schema = under_way.service_schema
  left join osp_metadata.worker_registry as running
    on running.service_schema = i.service_schema and running.deployment_status = 'deployed'
    and not exists (
      select from osp_metadata.worker_registry as newer
      where newer.service_schema = running.service_schema and newer.deployment_status = 'deployed' and newer.revision > running.revision
    )
  cross join lateral (
    select r.* from osp_metadata.worker_registry as r
    where r.service_schema = i.service_schema
    order by r.revision desc
    limit 1
  ) as newest
  where i.revision = i.enqueued_revision

  union all

  -- All others. Who asks for none of these states leaves no row in possible, and then nothing is looked at.
  select
    i.service_schema, possible.state,
    newest.deployment_status, newest.retry_count, newest.next_attempt_at,
    -- Nothing is known to run, and reconcile makes a new revision of it.
    case when newest.id is null and i.wanted = 'run' then 'registry_row_missing' else newest.error_code end,
    case
      when newest.id is null and i.wanted = 'run'
        then pg_catalog.format('worker_registry has no row of revision %s: it is deployed anew within a minute or two', i.revision)
      else newest.error_message
    end,
    running.revision, running.deployed_at, running.last_health_check, running.worker_version, running.platform
  from osp_metadata.service_intents as i
  left join osp_metadata.worker_registry as running
    on running.service_schema = i.service_schema and running.deployment_status = 'deployed'
    and not exists (
      select from osp_metadata.worker_registry as newer
      where newer.service_schema = running.service_schema and newer.deployment_status = 'deployed' and newer.revision > running.revision
    )
  left join lateral (
    select r.* from osp_metadata.worker_registry as r
    where r.service_schema = i.service_schema
    order by r.revision desc
    limit 1
  ) as newest on true
  inner join (values ('running'), ('failed'), ('stopped')) as possible (state) on possible.state = case
    when i.wanted = 'stop' and running.id is null then 'stopped'
    when running.revision = i.revision or newest.deployment_status = 'deployed' then 'running'
    when newest.id is null then 'failed'
    else newest.deployment_status
  end
  where
    i.revision = i.enqueued_revision
    and not exists (
      select from osp_metadata.worker_registry as u where u.service_schema = i.service_schema and u.deployment_status = 'pending'
    )
    and not exists (
      select from osp_metadata.worker_registry as u where u.service_schema = i.service_schema and u.deployment_status = 'deploying'
    )
    -- Of a service that was deleted and pruned only the number is left, so that it is never given twice.
    and not (i.source = 'delete' and newest.id is null)
) as stands
inner join osp_metadata.service_intents as i on i.service_schema = stands.service_schema
left join osp.services as s on s.service_schema = i.service_schema;
comment on column osp_metadata.worker_status.last_error_code is 'Short name of its last error; not_enqueued: the newest revision waits for the Edge Function, which met an obstacle; registry_row_missing: worker_registry has lost its row.';
