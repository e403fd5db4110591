-- Purpose: history tells when each revision was requested, and which one a rollback brought back.

set lock_timeout = '5s'; -- never a queue of writers behind a migration that waits

alter table osp_metadata.service_intents add column if not exists rolled_back_to integer;
comment on column osp_metadata.service_intents.rolled_back_to is 'Revision whose spec the newest one brought back; null: it is no rollback.';

alter table osp_metadata.worker_registry
  add column if not exists requested_at timestamptz,
  add column if not exists rolled_back_to integer;
comment on column osp_metadata.worker_registry.requested_at is 'When its revision was requested; null: enqueued before that was recorded.';
comment on column osp_metadata.worker_registry.rolled_back_to is 'Revision whose spec it brought back; null: it is no rollback.';

create or replace function osp_metadata.record_intents(schemas text[], wants text[], sources text[])
returns void
language plpgsql
security invoker  -- called by functions that run as the owner; nobody else may
set search_path = ''
as $$
begin
  if pg_catalog.cardinality(schemas) is null or pg_catalog.cardinality(schemas) = 0 then
    return;
  end if;
  insert into osp_metadata.service_intents as i (service_schema, revision, wanted, source, requested_by)
  select
    change.service_schema,
    -- Numbering goes on where the intents were lost and the registry was not.
    coalesce((
      select max(r.revision) from osp_metadata.worker_registry as r where r.service_schema = change.service_schema
    ), 0) + 1,
    change.wanted,
    change.source,
    osp_metadata.requesting_role()
  from unnest(schemas, wants, sources) as change (service_schema, wanted, source)
  order by change.service_schema  -- everybody locks in this order: no deadlock
  on conflict (service_schema) do update set
    revision = greatest(i.revision + 1, excluded.revision),
    wanted = excluded.wanted,
    source = excluded.source,
    rolled_back_to = null,
    requested_at = clock_timestamp(),
    requested_by = excluded.requested_by,
    deployment_id = gen_random_uuid(),
    attempts = 0,
    last_error = null,
    last_error_at = null;
  perform osp_metadata.ring();
end;
$$;
