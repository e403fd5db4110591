-- Purpose: a delete or disable stays a recorded wish when the registry is emptied before it was carried out. Its intent says
-- that it was enqueued, and no row is left that would do it: what runs of the service is stopped by a new revision.

set lock_timeout = '5s'; -- never a queue of writers behind a migration that waits

create or replace function osp_metadata.find_left_services(listed jsonb, listed_at timestamptz)
returns table (deployment_id uuid, service_schema text, revision integer, source text)
language sql
stable
security definer      -- the deployer may not read osp.services
set search_path = pg_catalog, pg_temp
as $$
  select distinct r.id, i.service_schema, i.revision, i.source
  from osp_metadata.as_listed_services(listed) as l
  inner join osp_metadata.service_intents as i on i.service_schema = l.service_schema
  left join osp_metadata.worker_registry as r on r.service_schema = i.service_schema and r.revision = i.revision
  left join osp.services as s on s.service_schema = i.service_schema
  where
    -- A recorded wish to stop: nothing else entitles anybody to end a service.
    i.wanted = 'stop' and i.source in ('delete', 'disable') and s.enabled is not true
    -- Fulfilled as far as the registry knows, or forgotten by it.
    and (
      (r.deployment_status = 'stopped' and r.stopped_at < listed_at)
      or (r.id is null and i.enqueued_revision = i.revision)
    )
    -- What is disabled stays there, stopped; what is deleted goes.
    and (l.is_running or i.source = 'delete');
$$;
comment on function osp_metadata.find_left_services is 'Services that were stopped or removed by a recorded disable or delete, and are there all the same. deployment_id is null where the row that should have done it is lost.';

create or replace function osp_metadata.stop_left(
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
  told constant text := pg_catalog.format('it is on platform %s all the same', platform_name);
  left_schemas text[];
  left_revisions integer[];
  left_sources text[];
begin
  select osp_metadata.unlocked_intents(pg_catalog.array_agg(due.service_schema)) into free
  from (
    select l.service_schema
    from osp_metadata.find_left_services(listed, listed_at) as l
    where osp_metadata.is_due_again(l.service_schema, 'service_left', every_seconds)
    order by l.service_schema
    limit most
  ) as due;
  if free is null then
    return;
  end if;

  -- Looked for once more, now that they are locked. By a revision, so that whoever inserts it again meanwhile is in turn.
  with found as materialized (
    select l.* from osp_metadata.find_left_services(listed, listed_at) as l where l.service_schema = any (free)
  ), marked as (
    update osp_metadata.worker_registry as r
    set
      error_code = 'service_left',
      error_message = told,
      logs = osp_metadata.append_log(r.logs, told || ': its stop is requested again')
    from found
    where r.id = found.deployment_id and r.deployment_status = 'stopped'
    returning r.id
  )
  select pg_catalog.array_agg(f.service_schema), pg_catalog.array_agg(f.revision), pg_catalog.array_agg(f.source)
  into left_schemas, left_revisions, left_sources
  from found as f
  -- Without a row there is nothing to mark; the new revision is the row of the next time.
  where f.deployment_id is null or f.deployment_id in (select marked.id from marked);

  perform osp_metadata.record_intents(array_agg(l.service_schema), array_agg('stop'::text), array_agg(l.source))
  from unnest(left_schemas, left_sources) as l (service_schema, source);
  return query
  select l.service_schema, l.revision, told from unnest(left_schemas, left_revisions) as l (service_schema, revision);
end;
$$;
comment on function osp_metadata.stop_left is 'Requests once more to stop or remove what a recorded disable or delete was to end, and what is there all the same.';
