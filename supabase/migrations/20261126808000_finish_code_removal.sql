-- Purpose: code that was taken to be removed is nobody's to use until that removal has ended, however long it takes: whoever was
-- paused longer than its lease may remove it still. And what Storage lacks all the same is known, and told.

set lock_timeout = '5s'; -- never a queue of writers behind a migration that waits

alter table osp_metadata.service_code add column if not exists missing_since timestamptz;
comment on column osp_metadata.service_code.lease_token is 'Who removes it now, or removed it last without having said how that went; null: nobody. Until it has gone for certain nobody can begin to use it.';
comment on column osp_metadata.service_code.lease_expires_at is 'Until when; afterwards its removal is taken up again.';
comment on column osp_metadata.service_code.missing_since is 'Since when it is known that Storage does not have it, though nothing was to remove it now; null: it has, or nobody looked. Pushed again it is there again.';

create or replace function osp.record_code(service_schema text, code text, bytes integer)
returns boolean
language plpgsql
volatile
security definer      -- who may push holds no rights on the table
set search_path = pg_catalog, pg_temp
set lock_timeout = '3s'
as $$
#variable_conflict use_column
declare
  is_kept boolean;
  is_left boolean;
begin
  insert into osp_metadata.service_code as c (service_schema, code, bytes, pushed_by)
  values (record_code.service_schema, record_code.code, record_code.bytes, osp_metadata.requesting_role())
  on conflict (service_schema, code) do update set
    -- One that is being removed stays as it is: it is gone in a moment.
    pushed_at = case when c.lease_token is null then clock_timestamp() else c.pushed_at end,
    pushed_by = case when c.lease_token is null then excluded.pushed_by else c.pushed_by end,
    missing_since = null
  returning c.lease_token is null, c.lease_expires_at <= clock_timestamp() into is_kept, is_left;
  if is_left then
    perform osp_metadata.ring();  -- whoever removed it is away: the Edge Function takes that up again
  end if;
  return is_kept;
end;
$$;
comment on function osp.record_code is 'Writes down that an archive was stored for a service, from when on it is kept for retention.keep_unused_code_days at least. False: the same archive is just being removed, store it again in a moment.';

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
  set used_at = case when c.lease_token is null then clock_timestamp() else c.used_at end
  where c.service_schema = use_code.service_schema and c.code = use_code.code
  returning c.lease_token is null into is_kept;
  -- What nobody wrote down (stored by hand) is never removed.
  return coalesce(is_kept, true);
end;
$$;
comment on function osp_metadata.use_code is 'Keeps a service''s code from being removed, for a manifest that names it. False: it is being removed, which nothing calls back.';

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
    (
      -- Once begun, a removal is ended whatever the retention says by then: it may have happened already.
      c.lease_expires_at <= pg_catalog.clock_timestamp()
      or (
        c.lease_token is null
        and greatest(c.pushed_at, c.used_at) < pg_catalog.clock_timestamp() - pg_catalog.make_interval(days => keep.keep_unused_code_days)
        and not exists (
          select from osp.services as s where s.service_schema = c.service_schema and s.options ->> 'code' = c.code
        )
        and not exists (
          select from osp_metadata.worker_registry as r
          where r.service_schema = c.service_schema and r.manifest #>> '{options,code}' = c.code
        )
      )
    )
    -- A Storage that refused refuses the next as well: it is asked again in a minute, not at every ring.
    and not exists (
      select from osp_metadata.service_code as f where f.last_error_at > pg_catalog.clock_timestamp() - interval '1 minute'
    )
  order by greatest(c.last_error_at, c.pushed_at, c.used_at), c.service_schema, c.code
  limit most;
$$;
comment on function osp_metadata.find_unused_code is 'Pushed code that no service and no deployment names, and that was pushed or used long enough ago; and code whose removal was begun and not ended.';

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
      and (
        c.lease_expires_at <= clock_timestamp()
        or (
          c.lease_token is null
          and greatest(c.pushed_at, c.used_at) < clock_timestamp() - pg_catalog.make_interval(days => (
            select keep.keep_unused_code_days from osp_metadata.retention as keep
          ))
        )
      )
    for update skip locked
  )
  update osp_metadata.service_code as c
  set lease_token = token, lease_expires_at = clock_timestamp() + pg_catalog.make_interval(secs => lease_seconds)
  from unused
  where c.service_schema = unused.service_schema and c.code = unused.code
  returning pg_catalog.format('%s/%s.tar.gz', c.service_schema, c.code), c.lease_token;
end;
$$;

create or replace function osp_metadata.check_code()
returns table (service_schema text, code text, missing_since timestamptz)
language plpgsql
volatile
security definer      -- the deployer holds no rights on osp.services, nor on the tables of Storage
set search_path = pg_catalog, pg_temp
set lock_timeout = '3s'
as $$
#variable_conflict use_column
begin
  if pg_catalog.to_regclass('storage.objects') is null then
    return; -- a Postgres without Storage
  end if;
  -- Dynamic, for the table may not be there when this is created. What is being removed is not missed; of what somebody has locked
  -- the next look tells, so that nobody waits for it, and pushed meanwhile it is there again, though this statement does not see it.
  execute $look$
    with changed as materialized (
      select c.service_schema, c.code, looked.is_stored
      from osp_metadata.service_code as c
      cross join lateral (
        select exists (
          select from storage.objects as o
          where o.bucket_id = 'code' and o.name = pg_catalog.format('%s/%s.tar.gz', c.service_schema, c.code)
        ) as is_stored
      ) as looked
      where c.lease_token is null and looked.is_stored = (c.missing_since is not null) and c.pushed_at < pg_catalog.statement_timestamp()
      order by c.service_schema, c.code
      for update of c skip locked
    )
    update osp_metadata.service_code as c
    set missing_since = case when not changed.is_stored then pg_catalog.clock_timestamp() end
    from changed
    where c.service_schema = changed.service_schema and c.code = changed.code
  $look$;
  return query
  select c.service_schema, c.code, c.missing_since
  from osp_metadata.service_code as c
  where
    c.missing_since is not null
    and (
      exists (
        select from osp.services as s where s.service_schema = c.service_schema and s.enabled and s.options ->> 'code' = c.code
      )
      or exists (
        select from osp_metadata.worker_registry as r
        where
          r.service_schema = c.service_schema and r.manifest #>> '{options,code}' = c.code
          and r.deployment_status in ('pending', 'deploying', 'deployed')
      )
    )
  order by c.missing_since, c.service_schema, c.code
  limit 100;
end;
$$;
comment on function osp_metadata.check_code is 'Compares the list of pushed code with what Storage has (service_code.missing_since). Returns what it lacks and a service or an open or running deployment names, at most 100.';

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
    -- Its removal is not called back: what Storage did not answer to it may do yet. It is taken up again.
    update osp_metadata.service_code as c
    set lease_expires_at = clock_timestamp(), last_error = pg_catalog.left(reason, 4096), last_error_at = clock_timestamp()
    where c.lease_token = forget_unused_code.lease_token and pg_catalog.format('%s/%s.tar.gz', c.service_schema, c.code) = any (paths);
  end if;
  get diagnostics forgotten = row_count;
  -- Another ended this removal long ago, and what has gone now may have been pushed since.
  if reason is null and forgotten < pg_catalog.cardinality(paths) then
    perform osp_metadata.check_code();
  end if;
  return forgotten;
end;
$$;
comment on function osp_metadata.forget_unused_code is 'Acknowledges taken code: it is gone from Storage. With a reason it is not, or nobody knows, and its removal is taken up again. Returns how many objects were still this lease''s.';

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
      hint = 'Push it again in a moment (osp code push), or name other code. What was pushed, and what is in the way of its removal, is in osp_metadata.service_code';
  end if;
  return new;
end;
$$;

revoke all on function osp_metadata.check_code from public, anon, authenticated, service_role;
grant execute on function osp_metadata.check_code to osp_deployer;
