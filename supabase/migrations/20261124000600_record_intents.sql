-- Purpose: every change of osp.services becomes a revision in the same transaction, set-wise, whatever the statement.

set lock_timeout = '5s'; -- never a queue of writers behind a migration that waits

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
    requested_at = clock_timestamp(),
    requested_by = excluded.requested_by,
    deployment_id = gen_random_uuid(),
    attempts = 0,
    last_error = null,
    last_error_at = null;
  perform osp_metadata.ring();
end;
$$;
comment on function osp_metadata.record_intents is 'One new revision for each schema, with what it wants and why; rings the doorbell once.';

create or replace function osp_metadata.requesting_role()
returns text
language sql
stable
set search_path = ''
as $$
  -- Inside a function of its owner current_user is that owner; the role a session took on is still known.
  select coalesce(nullif(pg_catalog.current_setting('role', true), 'none'), session_user::text);
$$;
comment on function osp_metadata.requesting_role is 'The database role that made the request.';

create or replace function osp_metadata.record_service_inserts()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
  perform osp_metadata.record_intents(
    array_agg(n.service_schema), array_agg(case when n.enabled then 'run' else 'stop' end), array_agg('insert'::text)
  )
  from new_services as n;
  return null;
end;
$$;
comment on function osp_metadata.record_service_inserts is 'A revision for each inserted service.';

create or replace function osp_metadata.record_service_updates()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
  perform osp_metadata.record_intents(
    array_agg(n.service_schema),
    array_agg(case when n.enabled then 'run' else 'stop' end),
    array_agg(case when n.enabled and o.enabled then 'update' when n.enabled then 'enable' else 'disable' end)
  )
  from new_services as n
  inner join old_services as o on o.service_schema = n.service_schema
  where
    n.enabled <> o.enabled
    -- What a disabled service changes reaches its worker when it is enabled.
    or (n.enabled and (n.service_name, n.workflows, n.options) is distinct from (o.service_name, o.workflows, o.options));
  return null;
end;
$$;
comment on function osp_metadata.record_service_updates is 'A revision for each service in which something changed that reaches its worker.';

create or replace function osp_metadata.record_service_deletes()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
  perform osp_metadata.record_intents(array_agg(o.service_schema), array_agg('stop'::text), array_agg('delete'::text))
  from old_services as o;
  return null;
end;
$$;
comment on function osp_metadata.record_service_deletes is 'A revision that wants a stop for each deleted service.';

create or replace function osp_metadata.record_service_truncate()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
  -- TRUNCATE has no transition table: whatever is known and not deleted already was deleted just now.
  perform osp_metadata.record_intents(array_agg(i.service_schema), array_agg('stop'::text), array_agg('delete'::text))
  from osp_metadata.service_intents as i
  where i.source <> 'delete';
  return null;
end;
$$;
comment on function osp_metadata.record_service_truncate is 'A revision that wants a stop for each service that TRUNCATE deleted.';

create or replace trigger services_record_inserts
after insert on osp.services
referencing new table as new_services
for each statement
execute function osp_metadata.record_service_inserts();

create or replace trigger services_record_updates
after update on osp.services
referencing old table as old_services new table as new_services
for each statement
execute function osp_metadata.record_service_updates();

create or replace trigger services_record_deletes
after delete on osp.services
referencing old table as old_services
for each statement
execute function osp_metadata.record_service_deletes();

create or replace trigger services_record_truncate
after truncate on osp.services
for each statement
execute function osp_metadata.record_service_truncate();
