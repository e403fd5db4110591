-- Purpose: a platform that names its deployments shows more than whether a worker runs: another than the one that was deployed,
-- which arrived late or was made by hand, or a second service of the same name. Both are deployed again.

set lock_timeout = '5s'; -- never a queue of writers behind a migration that waits

drop function if exists osp_metadata.as_listed_services(jsonb);
create function osp_metadata.as_listed_services(listed jsonb)
returns table (service_schema text, id text, is_running boolean, deployment_id text, platform_deployment_id text)
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
  select l.*
  from pg_catalog.jsonb_to_recordset(listed)
    as l (service_schema text, id text, is_running boolean, deployment_id text, platform_deployment_id text);
$$;
comment on function osp_metadata.as_listed_services is 'What a platform lists, as rows. deployment_id: the registry row that it runs, platform_deployment_id: the platform''s own id of what runs, each where the platform knows.';

drop function if exists osp_metadata.find_lost_services(text, jsonb, timestamptz);
create function osp_metadata.find_lost_services(platform_name text, listed jsonb, listed_at timestamptz)
returns table (deployment_id uuid, service_schema text, revision integer, reason text)
language sql
stable
security definer      -- the deployer may not read osp.services
set search_path = pg_catalog, pg_temp
as $$
  with there as (
    -- One row per service: it is joined, not searched through for each of 100,000.
    select
      l.service_schema,
      bool_or(l.is_running) as runs,
      bool_or(l.is_running and l.deployment_id is null) as may_be_any_row,
      pg_catalog.array_agg(l.deployment_id) filter (where l.is_running) as deployment_ids,
      bool_or(l.is_running and l.platform_deployment_id is null) as may_be_any_deployment,
      pg_catalog.array_agg(l.platform_deployment_id) filter (where l.is_running) as platform_deployment_ids,
      pg_catalog.array_agg(l.id) as ids
    from osp_metadata.as_listed_services(listed) as l
    group by l.service_schema
  )
  select r.id, r.service_schema, r.revision, why.reason
  from osp_metadata.worker_registry as r
  inner join osp_metadata.service_intents as i on i.service_schema = r.service_schema
  inner join osp.services as s on s.service_schema = r.service_schema
  left join there on there.service_schema = r.service_schema
  cross join lateral (
    select case
      when there.runs is not true or not (there.may_be_any_row or r.id::text = any (there.deployment_ids))
        then pg_catalog.format('its worker is gone from platform %s', platform_name)
      when not (
        there.may_be_any_deployment or r.platform_deployment_id is null
        or r.platform_deployment_id = any (there.platform_deployment_ids)
      ) then pg_catalog.format('another deployment runs in its place on platform %s', platform_name)
      -- What a killed deployer had begun to make, and its successor made as well.
      when r.platform_service_id is not null and r.platform_service_id <> any (there.ids)
        then pg_catalog.format('it is on platform %s twice', platform_name)
    end as reason
  ) as why
  where
    r.platform = platform_name and r.deployment_status = 'deployed' and s.enabled and i.wanted = 'run'
    -- What was deployed after the listing cannot be in it.
    and r.deployed_at < listed_at
    and why.reason is not null
    -- is_under_way, written out: of 100,000 services it would be called for each.
    and i.revision = i.enqueued_revision
    and not exists (
      select from osp_metadata.worker_registry as n
      where n.service_schema = r.service_schema and n.deployment_status in ('pending', 'deploying')
    );
$$;
comment on function osp_metadata.find_lost_services is 'Deployments that should run on a platform and, as it listed at that time, do not, or not alone, and why; while nothing of the service is under way.';

create or replace function osp_metadata.redeploy_lost(
  platform_name text, listed jsonb, listed_at timestamptz, most integer, every_seconds double precision
)
returns table (service_schema text, revision integer, reason text)
language plpgsql
volatile
security invoker  -- called by reconcile_platform alone, as the owner
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  free text[];
  lost_schemas text[];
  lost_revisions integer[];
  lost_reasons text[];
begin
  select osp_metadata.unlocked_intents(pg_catalog.array_agg(due.service_schema)) into free
  from (
    select l.service_schema
    from osp_metadata.find_lost_services(platform_name, listed, listed_at) as l
    where osp_metadata.is_due_again(l.service_schema, 'service_lost', every_seconds)
    order by l.service_schema
    limit osp_metadata.lost_services_allowed(platform_name, listed, listed_at, most)
  ) as due;
  if free is null then
    return;
  end if;

  -- Looked for once more, now that they are locked. The deployment ends with the loss, in one step with the request that
  -- follows from it: no loss is acted upon twice.
  with lost as (
    update osp_metadata.worker_registry as r
    set
      deployment_status = 'stopped',
      stopped_at = clock_timestamp(),
      error_code = 'service_lost',
      error_message = l.reason,
      logs = osp_metadata.append_log(r.logs, l.reason || ': a new revision is requested')
    from osp_metadata.find_lost_services(platform_name, listed, listed_at) as l
    where r.id = l.deployment_id and r.deployment_status = 'deployed' and l.service_schema = any (free)
    returning r.service_schema, r.revision, l.reason
  )
  select pg_catalog.array_agg(lost.service_schema), pg_catalog.array_agg(lost.revision), pg_catalog.array_agg(lost.reason)
  into lost_schemas, lost_revisions, lost_reasons
  from lost;

  perform osp_metadata.record_intents(array_agg(l.service_schema), array_agg('run'::text), array_agg('reconcile'::text))
  from (select distinct unnest(lost_schemas) as service_schema) as l;
  return query
  select l.service_schema, l.revision, l.reason
  from unnest(lost_schemas, lost_revisions, lost_reasons) as l (service_schema, revision, reason);
end;
$$;
comment on function osp_metadata.redeploy_lost is 'Ends the deployments that do not run as they should, and requests a new revision of each service.';

revoke all on function osp_metadata.as_listed_services, osp_metadata.find_lost_services from public, anon, authenticated, service_role;
grant execute on function osp_metadata.find_lost_services to osp_deployer;
