-- Purpose: functions that nobody can turn against their owner, and that are closed to PUBLIC from the moment they are made.

set lock_timeout = '5s'; -- never a queue of writers behind a migration that waits

-- With search_path = '' the caller's temporary schema still comes first for types and tables, and everybody may create there:
-- the CHECK of a domain pg_temp.text ran as the owner of every security definer function that says "text". Named last, pg_temp
-- shadows nothing (manual of Postgres, "Writing SECURITY DEFINER Functions Safely").
do $$
declare
  routine pg_catalog.regprocedure;
begin
  for routine in
    select p.oid from pg_catalog.pg_proc as p
    where p.pronamespace in ('osp'::pg_catalog.regnamespace, 'osp_metadata'::pg_catalog.regnamespace)
  loop
    execute pg_catalog.format('alter routine %s set search_path = pg_catalog, pg_temp', routine);
    execute pg_catalog.format('revoke execute on routine %s from public', routine);
  end loop;
end;
$$;

create or replace function osp_metadata.close_new_functions()
returns event_trigger
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  routine pg_catalog.regprocedure;
begin
  -- It fires for whoever makes a function anywhere: only in the loop does it need a right of ours.
  for routine in
    select made.objid
    from pg_catalog.pg_event_trigger_ddl_commands() as made
    where made.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass and made.schema_name in ('osp', 'osp_metadata')
  loop
    execute pg_catalog.format('alter routine %s set search_path = pg_catalog, pg_temp', routine);
    execute pg_catalog.format('revoke execute on routine %s from public', routine);
  end loop;
end;
$$;
comment on function osp_metadata.close_new_functions is 'Takes every function that is made in osp or osp_metadata from PUBLIC, to whom Postgres opens each new one, and names pg_temp last. Those of other schemas are not ours.';
revoke execute on function osp_metadata.close_new_functions from public;

-- Default privileges cannot do this: those of a schema are added to those of the database, where PUBLIC has EXECUTE, and the
-- database's are not ours to change.
do $$
begin
  if not exists (select from pg_catalog.pg_event_trigger where evtname = 'osp_close_new_functions') then
    create event trigger osp_close_new_functions on ddl_command_end
    when tag in ('CREATE FUNCTION', 'CREATE PROCEDURE')
    execute function osp_metadata.close_new_functions();
    comment on event trigger osp_close_new_functions is 'Closes to PUBLIC what is made in osp and osp_metadata.';
  end if;
exception when insufficient_privilege then
  raise notice 'This role may not create event triggers (%): revoke execute from public on every function that is made in osp or osp_metadata', sqlerrm;
end;
$$;
