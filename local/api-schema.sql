-- Purpose: what a Supabase database has for its API beside the tables of Storage, which @supabase/lite makes.
-- Applied by api-server.ts at each start.

do $$
declare
  role_name text;
begin
  foreach role_name in array array['anon', 'authenticated', 'service_role']
  loop
    if not exists (select from pg_catalog.pg_roles where rolname = role_name) then
      execute pg_catalog.format('create role %I nologin', role_name);
    end if;
  end loop;
end;
$$;
alter role service_role bypassrls;

-- As on Supabase: everybody may ask, row level security (no policy: nothing for anon and authenticated) decides.
grant usage on schema storage to anon, authenticated, service_role;
grant all on storage.buckets, storage.objects to anon, authenticated, service_role;

create schema if not exists osp_local;
comment on schema osp_local is 'Belongs to the local stack and to tests; no Supabase project has it.';

-- The API reads tables and functions once; this tells it to read them again. Supabase has the same pair of triggers.
create or replace function osp_local.reload_api_schema()
returns event_trigger
language plpgsql
set search_path = ''
as $$
begin
  perform pg_catalog.pg_notify('pgrst', 'reload schema');
end;
$$;

do $$
begin
  if not exists (select from pg_catalog.pg_event_trigger where evtname = 'osp_local_ddl') then
    create event trigger osp_local_ddl on ddl_command_end execute function osp_local.reload_api_schema();
    create event trigger osp_local_drop on sql_drop execute function osp_local.reload_api_schema();
  end if;
end;
$$;
