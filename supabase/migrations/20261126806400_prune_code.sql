-- Purpose: code that nobody uses goes. The Edge Function takes it under a lease, removes it from Storage and forgets it. Whoever
-- begins to use a piece of code touches its row first, so that it is either kept or known to be on its way out.

set lock_timeout = '5s'; -- never a queue of writers behind a migration that waits

alter table osp_metadata.retention add column if not exists keep_unused_code_days integer default 30;
alter table osp_metadata.retention drop constraint if exists retention_keep_unused_code_days_check;
alter table osp_metadata.retention add constraint retention_keep_unused_code_days_check
check (keep_unused_code_days between 1 and 36500) not valid;
comment on column osp_metadata.retention.keep_unused_code_days is 'Days that pushed code is kept which no row of osp.services and no deployment names, from its last push or use on; null: for ever.';

create or replace function osp_metadata.refuse_retention()
returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  if new.keep_days < 0 or new.keep_days > 36500 then
    raise exception using
      errcode = 'check_violation', schema = 'osp_metadata', table = 'retention', column = 'keep_days',
      message = pg_catalog.format('keep_days: %s must be from 0 to 36500', new.keep_days),
      hint = 'null keeps everything for ever; 0 keeps of each service only its newest keep_revisions revisions';
  elsif new.keep_revisions is null or new.keep_revisions not between 1 and 100000 then
    raise exception using
      errcode = 'check_violation', schema = 'osp_metadata', table = 'retention', column = 'keep_revisions',
      message = pg_catalog.format('keep_revisions: %s must be from 1 to 100000', coalesce(new.keep_revisions::text, 'null')),
      hint = 'The newest revision of a service is always kept. To keep everything for ever: update osp_metadata.retention set keep_days = null';
  elsif new.keep_unused_code_days not between 1 and 36500 then
    raise exception using
      errcode = 'check_violation', schema = 'osp_metadata', table = 'retention', column = 'keep_unused_code_days',
      message = pg_catalog.format('keep_unused_code_days: %s must be from 1 to 36500', new.keep_unused_code_days),
      hint = 'null keeps pushed code for ever';
  end if;
  return new;
end;
$$;

create or replace function osp_metadata.find_unused_code(most integer)
returns table (service_schema text, code text)
language sql
stable
security invoker  -- called by the functions below alone, as the owner
set search_path = pg_catalog, pg_temp
as $$
  select c.service_schema, c.code
  from osp_metadata.service_code as c
  cross join osp_metadata.retention as keep
  where
    greatest(c.pushed_at, c.used_at) < pg_catalog.clock_timestamp() - pg_catalog.make_interval(days => keep.keep_unused_code_days)
    and (c.lease_expires_at is null or c.lease_expires_at <= pg_catalog.clock_timestamp())
    and not exists (
      select from osp.services as s where s.service_schema = c.service_schema and s.options ->> 'code' = c.code
    )
    and not exists (
      select from osp_metadata.worker_registry as r
      where r.service_schema = c.service_schema and r.manifest #>> '{options,code}' = c.code
    )
    -- A Storage that refused refuses the next as well: it is asked again in a minute, not at every ring.
    and not exists (
      select from osp_metadata.service_code as f where f.last_error_at > pg_catalog.clock_timestamp() - interval '1 minute'
    )
  order by greatest(c.last_error_at, c.pushed_at, c.used_at), c.service_schema, c.code
  limit most;
$$;
comment on function osp_metadata.find_unused_code is 'Pushed code that no service and no deployment names, and that was pushed or used long enough ago.';

create or replace function osp_metadata.count_unused_code()
returns integer
language sql
stable
security definer      -- the deployer holds no rights on osp.services
set search_path = pg_catalog, pg_temp
as $$
  select pg_catalog.count(*)::integer from osp_metadata.find_unused_code(1000);
$$;
comment on function osp_metadata.count_unused_code is 'How much code nobody uses and may be removed from Storage now, counted up to 1000.';

create or replace function osp_metadata.take_unused_code(batch_size integer default 100, lease_seconds integer default 30)
returns table (path text, lease_token uuid)
language plpgsql
volatile
security definer      -- the Edge Function holds no rights on the tables
set search_path = pg_catalog, pg_temp
set lock_timeout = '3s'  -- less than the Edge Function waits for an answer
as $$
#variable_conflict use_column
declare
  token uuid := pg_catalog.gen_random_uuid();
begin
  return query
  with unused as materialized (
    select c.service_schema, c.code
    from osp_metadata.service_code as c
    where
      (c.service_schema, c.code) in (select f.service_schema, f.code from osp_metadata.find_unused_code(batch_size) as f)
      -- Once more, of the row as it is when it is locked: whoever came first has it, or uses it by now.
      and greatest(c.pushed_at, c.used_at) < clock_timestamp() - pg_catalog.make_interval(days => (
        select keep.keep_unused_code_days from osp_metadata.retention as keep
      ))
      and (c.lease_expires_at is null or c.lease_expires_at <= clock_timestamp())
    for update skip locked
  )
  update osp_metadata.service_code as c
  set lease_token = token, lease_expires_at = clock_timestamp() + pg_catalog.make_interval(secs => lease_seconds)
  from unused
  where c.service_schema = unused.service_schema and c.code = unused.code
  returning pg_catalog.format('%s/%s.tar.gz', c.service_schema, c.code), c.lease_token;
end;
$$;
comment on function osp_metadata.take_unused_code is 'Leases up to batch_size objects of the bucket code that nobody uses, to be removed from Storage.';

create or replace function osp_metadata.forget_unused_code(lease_token uuid, paths text[], reason text default null)
returns integer
language plpgsql
volatile
security definer      -- the Edge Function holds no rights on the tables
set search_path = pg_catalog, pg_temp
set lock_timeout = '3s'  -- less than the Edge Function waits for an answer
as $$
#variable_conflict use_column
declare
  forgotten integer;
begin
  if reason is null then
    delete from osp_metadata.service_code as c
    where c.lease_token = forget_unused_code.lease_token and pg_catalog.format('%s/%s.tar.gz', c.service_schema, c.code) = any (paths);
  else
    update osp_metadata.service_code as c
    set lease_token = null, lease_expires_at = null, last_error = pg_catalog.left(reason, 4096), last_error_at = clock_timestamp()
    where c.lease_token = forget_unused_code.lease_token and pg_catalog.format('%s/%s.tar.gz', c.service_schema, c.code) = any (paths);
  end if;
  get diagnostics forgotten = row_count;
  return forgotten;
end;
$$;
comment on function osp_metadata.forget_unused_code is 'Acknowledges taken code: it is gone from Storage. With a reason it is not, and waits on. Returns how many objects were still this lease''s.';

create or replace function osp_metadata.use_code(service_schema text, code text)
returns boolean
language plpgsql
volatile
security definer      -- the Edge Function holds no rights on the tables
set search_path = pg_catalog, pg_temp
set lock_timeout = '3s'  -- less than the Edge Function waits for an answer
as $$
#variable_conflict use_column
declare
  is_kept boolean;
begin
  update osp_metadata.service_code as c
  set
    used_at = case when c.lease_expires_at > clock_timestamp() then c.used_at else clock_timestamp() end,
    -- A lease that is over is nobody's any more: who held it does not forget what is used again.
    lease_token = case when c.lease_expires_at > clock_timestamp() then c.lease_token end,
    lease_expires_at = case when c.lease_expires_at > clock_timestamp() then c.lease_expires_at end
  where c.service_schema = use_code.service_schema and c.code = use_code.code
  returning c.lease_token is null into is_kept;
  -- What nobody wrote down (stored by hand) is never removed.
  return coalesce(is_kept, true);
end;
$$;
comment on function osp_metadata.use_code is 'Keeps a service''s code from being removed, for a manifest that names it. False: it is just being removed.';

-- A row of osp.services that begins to name code is not seen by a removal until it is committed: its code's row is touched, and
-- so locked, in the same transaction.
create or replace function osp_metadata.use_named_code()
returns trigger
language plpgsql
security definer      -- whoever writes services holds no rights on the table
set search_path = pg_catalog, pg_temp
as $$
begin
  if not osp_metadata.use_code(new.service_schema, new.options ->> 'code') then
    raise exception using
      errcode = 'object_in_use',
      schema = 'osp',
      table = 'services',
      message = pg_catalog.format(
        'options.code: %s of service "%s" is just being removed, for nothing has used it for a while',
        osp.quote_value(new.options -> 'code'), osp.visible(pg_catalog.left(new.service_schema, 80))
      ),
      hint = 'Push it again in a moment (osp code push), or name other code. What was pushed is in osp_metadata.service_code';
  end if;
  return new;
end;
$$;
comment on function osp_metadata.use_named_code is 'Keeps the code that a row of osp.services begins to name from being removed; refuses it with 55006 where it is just being removed.';

create or replace trigger services_use_code_insert
before insert on osp.services
for each row
when (new.options ->> 'code' is not null)
execute function osp_metadata.use_named_code();

create or replace trigger services_use_code_update
before update on osp.services
for each row
when (new.options ->> 'code' is not null and new.options ->> 'code' is distinct from old.options ->> 'code')
execute function osp_metadata.use_named_code();

revoke all on function osp_metadata.use_named_code from public, anon, authenticated, service_role;
revoke all on function
  osp_metadata.find_unused_code, osp_metadata.count_unused_code, osp_metadata.take_unused_code, osp_metadata.forget_unused_code,
  osp_metadata.use_code
from public, anon, authenticated;
grant execute on function osp_metadata.take_unused_code, osp_metadata.forget_unused_code, osp_metadata.use_code to service_role;
grant execute on function osp_metadata.count_unused_code to osp_deployer;

do $$
begin
  if exists (select from pg_catalog.pg_extension where extname = 'pg_cron') then
    perform cron.schedule(
      'osp-reconcile', '* * * * *',
      'select osp_metadata.ring() where osp_metadata.reconcile() + osp_metadata.prune() + osp_metadata.count_unused_code() > 0'
    );
  end if;
exception when others then
  raise notice 'pg_cron is there but cannot be used (%): the deployer prunes instead', sqlerrm;
end;
$$;
