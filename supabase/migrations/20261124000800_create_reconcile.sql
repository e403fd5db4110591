-- Purpose: find what no trigger saw: restores, loads with session_replication_role = replica, an emptied registry.

set lock_timeout = '5s'; -- never a queue of writers behind a migration that waits

create or replace function osp_metadata.reconcile()
returns integer
language plpgsql
volatile
security definer
set search_path = ''
set lock_timeout = '3s'  -- the deployer's sweep goes on
as $$
declare
  free text[];
begin
  -- One at a time is enough: a second caller would find the same differences.
  if pg_catalog.pg_try_advisory_xact_lock(pg_catalog.hashtext('osp_metadata.reconcile')) then
    perform osp_metadata.lock_services();

    -- Who edits a service now is not waited for; the next call sees what came of it.
    with unlocked as materialized (
      select i.service_schema
      from osp_metadata.service_intents as i
      where i.service_schema in (select d.service_schema from osp_metadata.find_differences() as d)
      order by i.service_schema  -- everybody locks in this order: no deadlock
      for update skip locked
    )
    select pg_catalog.array_agg(unlocked.service_schema) into free from unlocked;

    -- Looked for once more, now that they are locked: an edit may have ended in between.
    perform osp_metadata.record_intents(array_agg(d.service_schema), array_agg(d.wanted), array_agg(d.source))
    from osp_metadata.find_differences() as d
    where
      d.service_schema = any (free)
      or not exists (select from osp_metadata.service_intents as i where i.service_schema = d.service_schema);
  end if;
  return osp_metadata.count_waiting_intents();
end;
$$;
comment on function osp_metadata.reconcile is 'Compares osp.services with what was requested and enqueued, requests what differs, and returns how many intents wait.';

create or replace function osp_metadata.find_differences()
returns table (service_schema text, wanted text, source text)
language sql
stable
security invoker  -- called by reconcile alone, as the owner
set search_path = ''
as $$
  -- Unknown services, and known ones that should run and were told to stop.
  select s.service_schema, 'run', 'reconcile'
  from osp.services as s
  left join osp_metadata.service_intents as i on i.service_schema = s.service_schema
  where s.enabled and (i.service_schema is null or i.wanted = 'stop')
  union all
  select s.service_schema, 'stop', 'disable'
  from osp.services as s
  left join osp_metadata.service_intents as i on i.service_schema = s.service_schema
  where not s.enabled and (i.service_schema is null or i.wanted = 'run')
  union all
  select i.service_schema, 'stop', 'delete'
  from osp_metadata.service_intents as i
  left join osp.services as s on s.service_schema = i.service_schema
  where s.id is null and i.source <> 'delete'
  union all
  -- Enqueued, but the registry has lost it, or the row changed since without a trigger.
  select s.service_schema, 'run', case when r.id is null then 'reconcile' else 'update' end
  from osp.services as s
  inner join osp_metadata.service_intents as i on i.service_schema = s.service_schema
  left join osp_metadata.worker_registry as r on r.service_schema = i.service_schema and r.revision = i.enqueued_revision
  where
    s.enabled and i.wanted = 'run' and i.revision = i.enqueued_revision
    and (
      r.id is null
      or r.spec_hash <> osp_metadata.hash_spec(s.service_name, s.workflows, s.options)
    );
$$;
comment on function osp_metadata.find_differences is 'Services whose newest intent is not what osp.services says.';

do $$
begin
  if exists (select from pg_catalog.pg_available_extensions where name = 'pg_cron') then
    create extension if not exists pg_cron;
    perform cron.schedule('osp-reconcile', '* * * * *', 'select osp_metadata.ring() where osp_metadata.reconcile() > 0');
  end if;
exception when others then
  raise notice 'pg_cron is offered but cannot be used (%): the deployer reconciles instead', sqlerrm;
end;
$$;
