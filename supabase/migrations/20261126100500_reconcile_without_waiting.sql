-- Purpose: reconcile waits for nobody, also not where a row has no intent yet: a writer who edits two of them would otherwise
-- wait for reconcile, and reconcile for the writer.

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
    -- Who edits a service now is not waited for; the next call sees what came of it. A service without an intent is locked by
    -- its row: whoever makes its intent has that row first.
    with unknown as materialized (
      select s.service_schema
      from osp.services as s
      where
        s.service_schema = any (differing)
        and not exists (select from osp_metadata.service_intents as i where i.service_schema = s.service_schema)
      order by s.service_schema
      for no key update skip locked
    ), known as materialized (
      select i.service_schema
      from osp_metadata.service_intents as i
      where i.service_schema = any (differing)
      order by i.service_schema  -- everybody locks in this order: no deadlock
      for update skip locked
    ), unlocked as (
      select unknown.service_schema from unknown union all select known.service_schema from known
    )
    select pg_catalog.array_agg(unlocked.service_schema) into free from unlocked;

    -- Looked for once more, now that they are locked: an edit may have ended in between.
    perform osp_metadata.record_intents(array_agg(d.service_schema), array_agg(d.wanted), array_agg(d.source))
    from osp_metadata.find_differences() as d
    where d.service_schema = any (free);
  end if;
  return osp_metadata.count_waiting_intents();
end;
$$;
