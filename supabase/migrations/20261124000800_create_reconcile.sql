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
  differing text[];
  free text[];
begin
  -- One at a time is enough: a second caller would find the same differences.
  if pg_catalog.pg_try_advisory_xact_lock(pg_catalog.hashtext('osp_metadata.reconcile')) then
    perform osp_metadata.lock_services();

    select pg_catalog.array_agg(d.service_schema) into differing from osp_metadata.find_differences() as d;
  end if;
  if differing is not null then
    -- Who edits a service now is not waited for; the next call sees what came of it.
    with unlocked as materialized (
      select i.service_schema
      from osp_metadata.service_intents as i
      where i.service_schema = any (differing)
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
  select
    coalesce(s.service_schema, i.service_schema),
    case when s.enabled then 'run' else 'stop' end,
    case
      when s.id is null then 'delete'
      when not s.enabled then 'disable'
      when newest.revision > i.enqueued_revision then 'reconcile'
      when enqueued.spec_hash <> osp_metadata.hash_spec(s.service_name, s.workflows, s.options) then 'update'
      else 'reconcile'
    end
  from osp.services as s
  full join osp_metadata.service_intents as i on i.service_schema = s.service_schema
  left join osp_metadata.worker_registry as enqueued
    on enqueued.service_schema = i.service_schema and enqueued.revision = i.enqueued_revision
  left join lateral (
    select max(r.revision) as revision from osp_metadata.worker_registry as r where r.service_schema = i.service_schema
  ) as newest on true
  where
    i.service_schema is null
    or (s.id is null and i.source <> 'delete')
    or (i.wanted = 'run') <> s.enabled
    -- The registry knows revisions that the intents do not: these are from an older backup and would number them again.
    or newest.revision > i.enqueued_revision
    -- Enqueued, but the registry has lost it, or the row changed since without a trigger.
    or (
      s.enabled and i.wanted = 'run' and i.revision = i.enqueued_revision
      and (enqueued.id is null or enqueued.spec_hash <> osp_metadata.hash_spec(s.service_name, s.workflows, s.options))
    );
$$;
comment on function osp_metadata.find_differences is 'Services whose newest intent is not what osp.services says, or behind what the registry has; each once.';

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
