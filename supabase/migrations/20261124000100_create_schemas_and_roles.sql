-- Purpose: the two schemas, and the roles that get exactly what each kind of user needs.
-- Runs on Supabase, where the API roles exist, and on a bare Postgres, where they are made.

set lock_timeout = '5s'; -- never a queue of writers behind a migration that waits

create schema if not exists osp;
comment on schema osp is 'What OSP wants to run: one row of osp.services per service.';

create schema if not exists osp_metadata;
comment on schema osp_metadata is 'What became of it: deployments, their attempts and the platforms they run on.';

do $$
declare
  role_name text;
begin
  foreach role_name in array array['anon', 'authenticated', 'service_role', 'osp_writer', 'osp_deployer', 'osp_analyst']
  loop
    if not exists (select from pg_catalog.pg_roles where rolname = role_name) then
      execute pg_catalog.format('create role %I nologin', role_name);
    end if;
  end loop;
end;
$$;

comment on role osp_writer is 'Group role for OSP: writes osp.services, asks for redeploys, reads what became of them.';
comment on role osp_deployer is 'Group role for the deployer: claims and settles deployments.';
comment on role osp_analyst is 'Group role for people who read: everything, and nothing else.';

-- The doorbell and the timer are conveniences: where an extension is not offered, the deployer does their work.
do $$
begin
  if exists (select from pg_catalog.pg_available_extensions where name = 'pg_net') then
    create extension if not exists pg_net;
  end if;
exception when others then
  raise notice 'pg_net is offered but cannot be created (%): the deployer rings the Edge Function instead', sqlerrm;
end;
$$;
