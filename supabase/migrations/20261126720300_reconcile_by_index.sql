-- Purpose: comparing services with what was enqueued costs a few index look-ups a service, whatever the registry has kept of
-- older revisions, and no hash where nothing changed.

set lock_timeout = '5s'; -- never a queue of writers behind a migration that waits

create or replace function osp_metadata.find_differences()
returns table (service_schema text, wanted text, source text)
language sql
stable
security invoker  -- called by reconcile alone, as the owner
set search_path = pg_catalog, pg_temp
as $$
  select
    coalesce(s.service_schema, i.service_schema),
    case when s.enabled then 'run' else 'stop' end,
    case
      when s.id is null then 'delete'
      when not s.enabled then 'disable'
      when
        newest.revision = i.enqueued_revision
        and newest.spec_hash <> osp_metadata.hash_spec(s.service_name, s.workflows, s.options) then 'update'
      else 'reconcile'
    end
  from osp.services as s
  full join osp_metadata.service_intents as i on i.service_schema = s.service_schema
  -- One row, by index: a join would be planned as a reading of the whole registry.
  left join lateral (
    select r.revision, r.spec, r.spec_hash
    from osp_metadata.worker_registry as r
    where r.service_schema = i.service_schema
    order by r.revision desc
    limit 1
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
      and (
        newest.revision is distinct from i.enqueued_revision
        or (
          -- Mostly the row is what it was; the hash, which costs ten times as much, decides where JavaScript made it another.
          (newest.spec -> 'workflows' = s.workflows and newest.spec -> 'options' = s.options
            and newest.spec ->> 'service_name' = s.service_name) is not true
          and newest.spec_hash <> osp_metadata.hash_spec(s.service_name, s.workflows, s.options)
        )
      )
    );
$$;

create or replace function osp_metadata.reconcile()
returns integer
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
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
    -- Who edits a service now is not waited for; the next call sees what came of it. A service without an intent is locked by
    -- its row: whoever makes its intent has that row first. Joined, as a search of an array for each would take the square of
    -- their number: all services differ where the registry was emptied.
    with unknown as materialized (
      select s.service_schema
      from osp.services as s
      inner join pg_catalog.unnest(differing) as d (service_schema) on d.service_schema = s.service_schema
      where not exists (select from osp_metadata.service_intents as i where i.service_schema = s.service_schema)
      order by s.service_schema
      for no key update of s skip locked
    ), known as materialized (
      select i.service_schema
      from osp_metadata.service_intents as i
      inner join pg_catalog.unnest(differing) as d (service_schema) on d.service_schema = i.service_schema
      order by i.service_schema  -- everybody locks in this order: no deadlock
      for update of i skip locked
    ), unlocked as (
      select unknown.service_schema from unknown union all select known.service_schema from known
    )
    select pg_catalog.array_agg(unlocked.service_schema) into free from unlocked;

    -- Looked for once more, now that they are locked: an edit may have ended in between.
    perform osp_metadata.record_intents(array_agg(d.service_schema), array_agg(d.wanted), array_agg(d.source))
    from osp_metadata.find_differences() as d
    inner join pg_catalog.unnest(free) as f (service_schema) on f.service_schema = d.service_schema;
  end if;
  return osp_metadata.count_waiting_intents();
end;
$$;
