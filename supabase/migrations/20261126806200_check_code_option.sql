-- Purpose: options.code names pushed code by its hash; anything else is refused like any other bad value. The same rule stands in
-- zod (supabase/functions/_shared/service-code.ts).

set lock_timeout = '5s'; -- never a queue of writers behind a migration that waits

create or replace function osp.is_valid_code(code jsonb)
returns boolean
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  if pg_catalog.jsonb_typeof(code) <> 'string' then
    perform osp.refuse_service('options.code', osp.quote_value(code), 'must be a string');
  elsif (code #>> '{}') !~ '^[0-9a-f]{64}$' then
    perform osp.refuse_service('options.code', osp.quote_value(code), 'must be 64 hex digits in lower case, as `osp code push` prints them');
  end if;
  return true;
end;
$$;
comment on function osp.is_valid_code is 'True, or raises 23514: a check constraint that can say what is wrong.';

-- The check runs as whoever writes.
revoke execute on function osp.is_valid_code from public, anon, authenticated;
grant execute on function osp.is_valid_code to service_role, osp_writer;

-- Of its own, beside services_valid_check: rows without code do not pay for it.
alter table osp.services drop constraint if exists services_code_check;
alter table osp.services add constraint services_code_check
check (not enabled or options -> 'code' is null or osp.is_valid_code(options -> 'code')) not valid;

create or replace function osp.refuse_invalid()
returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  perform osp.is_valid_service(new.service_schema, new.service_name, new.workflows, new.options);
  if new.options -> 'code' is not null then
    perform osp.is_valid_code(new.options -> 'code');
  end if;
  return new;
end;
$$;

comment on column osp.services.options is 'How the service runs: activity_endpoint (URL template), activity_timeout_seconds, activity_max_attempts, activity_retry, max_concurrent_activities, max_activities_per_second, max_task_queue_activities_per_second, replicas, activities (what single ones of them have of their own), code (its own code, as osp code push names it) and replay_gate (false: open workflows are not replayed with new code before it is deployed).';
