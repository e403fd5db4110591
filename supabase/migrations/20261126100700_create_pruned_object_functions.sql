-- Purpose: what the Edge Function calls to remove pruned objects from Storage: take them under a lease, and forget them.
-- An answer that gets lost or a crash repeats a removal, harmlessly.

set lock_timeout = '5s'; -- never a queue of writers behind a migration that waits

create or replace function osp_metadata.count_pruned_objects()
returns integer
language sql
stable
security definer
set search_path = ''
as $$
  select pg_catalog.count(*)::integer
  from (
    select from osp_metadata.pruned_objects as p
    where
      (p.lease_expires_at is null or p.lease_expires_at <= pg_catalog.clock_timestamp())
      and not exists (
        select from osp_metadata.pruned_objects as f
        where f.last_error_at > pg_catalog.clock_timestamp() - interval '1 minute'
      )
    limit 1000
  ) as waiting;
$$;
comment on function osp_metadata.count_pruned_objects is 'How many objects wait to be removed from Storage and may be tried now, counted up to 1000.';

create or replace function osp_metadata.take_pruned_objects(batch_size integer default 100, lease_seconds integer default 30)
returns table (path text, lease_token uuid)
language plpgsql
volatile
security definer      -- the Edge Function holds no rights on the tables
set search_path = ''
set lock_timeout = '3s'  -- less than the Edge Function waits for an answer
as $$
#variable_conflict use_column
declare
  token uuid := pg_catalog.gen_random_uuid();
  lease_end timestamptz := pg_catalog.clock_timestamp() + pg_catalog.make_interval(secs => lease_seconds);
  mirrored text[];
begin
  -- A Storage that refused refuses the next as well: it is asked again in a minute, not at every ring.
  if osp_metadata.count_pruned_objects() = 0 then
    return;
  end if;

  -- The mirror of a service that came back is its new revision's; of one that no intent knows it may be.
  delete from osp_metadata.pruned_objects as p
  where
    p.revision is null and (p.lease_expires_at is null or p.lease_expires_at <= clock_timestamp())
    and (
      exists (select from osp_metadata.worker_registry as r where r.service_schema = p.service_schema)
      or not exists (select from osp_metadata.service_intents as i where i.service_schema = p.service_schema)
    );

  -- While a mirror is removed nobody may write it: the lease is on the intent too, and with it on the service's next revision.
  with free as materialized (
    select i.service_schema
    from osp_metadata.pruned_objects as p
    inner join osp_metadata.service_intents as i on i.service_schema = p.service_schema
    where
      p.revision is null and (p.lease_expires_at is null or p.lease_expires_at <= clock_timestamp())
      and i.source = 'delete' and i.revision = i.enqueued_revision
      and (i.lease_expires_at is null or i.lease_expires_at <= clock_timestamp())
    order by i.service_schema  -- everybody locks in this order: no deadlock
    limit batch_size
    for update of i skip locked
  ), leased as (
    update osp_metadata.service_intents as i
    set lease_token = token, lease_expires_at = lease_end
    from free
    where i.service_schema = free.service_schema
    returning i.service_schema
  )
  select pg_catalog.array_agg(leased.service_schema) into mirrored from leased;

  return query
  with oldest as materialized (
    select p.path, p.service_schema, p.revision
    from osp_metadata.pruned_objects as p
    where
      p.revision is not null and (p.lease_expires_at is null or p.lease_expires_at <= clock_timestamp())
      -- A revision that is not enqueued yet, or whose number comes again with lost intents, may be just writing its object.
      and not exists (
        select from osp_metadata.service_intents as i
        where i.service_schema = p.service_schema and i.enqueued_revision < p.revision
      )
    order by p.waits_since, p.path
    limit batch_size
    for update skip locked  -- a second function takes the next ones
  ), needed as (
    delete from osp_metadata.pruned_objects as p
    using oldest
    inner join osp_metadata.worker_registry as r on r.service_schema = oldest.service_schema and r.revision = oldest.revision
    where p.path = oldest.path and p.path = osp_metadata.manifest_object(r.service_schema, r.revision, r.manifest_sha256)
    returning p.path
  )
  update osp_metadata.pruned_objects as p
  set lease_token = token, lease_expires_at = lease_end
  where
    (p.path in (select oldest.path from oldest) and p.path not in (select needed.path from needed))
    or (p.revision is null and p.service_schema = any (mirrored))
  returning p.path, p.lease_token;
end;
$$;
comment on function osp_metadata.take_pruned_objects is 'Leases up to batch_size objects that no deployment needs, to be removed from Storage.';

create or replace function osp_metadata.forget_pruned_objects(lease_token uuid, paths text[], reason text default null)
returns integer
language plpgsql
volatile
security definer      -- the Edge Function holds no rights on the tables
set search_path = ''
set lock_timeout = '3s'  -- less than the Edge Function waits for an answer
as $$
#variable_conflict use_column
declare
  forgotten integer;
begin
  with held as materialized (
    select i.service_schema
    from osp_metadata.service_intents as i
    where i.lease_token = forget_pruned_objects.lease_token
      and i.service_schema in (select p.service_schema from osp_metadata.pruned_objects as p where p.path = any (paths) and p.revision is null)
    order by i.service_schema  -- everybody locks in this order: no deadlock
    for update skip locked  -- one that is being edited: its lease ends by itself
  )
  update osp_metadata.service_intents as i
  set lease_token = null, lease_expires_at = null
  from held
  where i.service_schema = held.service_schema;

  if reason is null then
    delete from osp_metadata.pruned_objects as p
    where p.path = any (paths) and p.lease_token = forget_pruned_objects.lease_token;
  else
    update osp_metadata.pruned_objects as p
    set
      lease_token = null, lease_expires_at = null, waits_since = clock_timestamp(),
      last_error = pg_catalog.left(reason, 4096), last_error_at = clock_timestamp()
    where p.path = any (paths) and p.lease_token = forget_pruned_objects.lease_token;
  end if;
  get diagnostics forgotten = row_count;
  return forgotten;
end;
$$;
comment on function osp_metadata.forget_pruned_objects is 'Acknowledges taken objects: they are gone from Storage. With a reason they are not, and wait on. Returns how many were still this lease''s.';
