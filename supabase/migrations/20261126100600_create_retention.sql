-- Purpose: how long history is kept, and what removes the rest.

set lock_timeout = '5s'; -- never a queue of writers behind a migration that waits

create table if not exists osp_metadata.retention (
  is_only_row boolean not null default true,
  keep_days integer,
  keep_revisions integer not null default 10,
  pruned_through text not null default '',
  constraint retention_pkey primary key (is_only_row),
  constraint retention_is_only_row_check check (is_only_row),
  constraint retention_keep_days_check check (keep_days between 0 and 36500),
  constraint retention_keep_revisions_check check (keep_revisions between 1 and 100000)
);
comment on table osp_metadata.retention is 'How long deployments are kept that have ended. One row: update osp_metadata.retention set keep_days = 90.';
comment on column osp_metadata.retention.is_only_row is 'Always true: there is one row.';
comment on column osp_metadata.retention.keep_days is 'Days that a deployment is kept after it has ended (failed or stopped), with its attempts and its manifest in Storage; null: for ever.';
comment on column osp_metadata.retention.keep_revisions is 'So many of the newest revisions of a service are kept however old they are, to be rolled back to; at least 1. A deleted service keeps none.';
comment on column osp_metadata.retention.pruned_through is 'Service up to which osp_metadata.prune has come; it goes on with the next and begins anew after the last.';

insert into osp_metadata.retention default values on conflict (is_only_row) do nothing;

alter table osp_metadata.retention enable row level security;

create or replace function osp_metadata.refuse_retention()
returns trigger
language plpgsql
set search_path = ''
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
  end if;
  return new;
end;
$$;
comment on function osp_metadata.refuse_retention is 'Refuses settings that osp_metadata.prune could not follow, and says which it can.';

create or replace trigger retention_refuse
before insert or update on osp_metadata.retention
for each row
execute function osp_metadata.refuse_retention();

create or replace function osp_metadata.find_prunable(after_schema text, services integer, most integer)
returns table (deployment_id uuid, service_schema text)
language sql
stable
security invoker  -- called by prune alone, as the owner
set search_path = ''
as $$
  with setting as materialized (
    select r.keep_revisions, clock_timestamp() - pg_catalog.make_interval(days => r.keep_days) as ended_before
    from osp_metadata.retention as r
    where r.keep_days is not null
  ), looked_at as materialized (
    select
      i.service_schema,
      i.is_deleted and newest.deployment_status = 'stopped' and newest.stopped_at < setting.ended_before as is_gone,
      (
        select r.revision from osp_metadata.worker_registry as r
        where r.service_schema = i.service_schema
        order by r.revision desc
        offset setting.keep_revisions - 1
        limit 1
      ) as kept_from
    from (
      select i.service_schema, i.source = 'delete' and i.revision = i.enqueued_revision as is_deleted
      from osp_metadata.service_intents as i
      where i.service_schema > after_schema
      order by i.service_schema
      limit services
    ) as i
    cross join setting
    left join lateral (
      select r.deployment_status, r.stopped_at from osp_metadata.worker_registry as r
      where r.service_schema = i.service_schema
      order by r.revision desc
      limit 1
    ) as newest on true
  )
  select prunable.id, looked_at.service_schema
  from looked_at
  cross join setting
  cross join lateral (
    select oldest.id
    from (
      -- The oldest are looked at, however many there are: behind one that is too young the others are younger.
      select r.* from osp_metadata.worker_registry as r
      where
        r.service_schema = looked_at.service_schema
        and (looked_at.is_gone or r.revision < looked_at.kept_from)
      order by r.revision
      limit most
    ) as oldest
    where
      oldest.deployment_status in ('failed', 'stopped')
      and coalesce(
        oldest.stopped_at,
        (select max(a.ended_at) from osp_metadata.deployment_attempts as a where a.deployment_id = oldest.id),
        oldest.created_at
      ) < setting.ended_before
      -- By the newest that knows it the next revision finds its service on the platform.
      and (looked_at.is_gone or oldest.platform_service_id is null or exists (
        select from osp_metadata.worker_registry as newer
        where
          newer.service_schema = oldest.service_schema and newer.revision > oldest.revision
          and newer.platform = oldest.platform and newer.platform_service_id is not null
      ))
    order by oldest.revision
  ) as prunable
  order by looked_at.service_schema
  limit most;
$$;
comment on function osp_metadata.find_prunable is 'Deployments that retention lets go of: ended, and neither young enough nor among the newest of their service; at most so many, of the next so many services.';

create or replace function osp_metadata.prune(batch_size integer default 1000)
returns integer
language plpgsql
volatile
security definer
set search_path = ''
set lock_timeout = '3s'  -- the deployer's sweep goes on
as $$
declare
  services constant integer := greatest(250, batch_size / 4);
  came_from text;
  comes_to text;
  pruned text[];
begin
  -- One at a time is enough: a second caller would find the same rows.
  if pg_catalog.pg_try_advisory_xact_lock(pg_catalog.hashtext('osp_metadata.prune')) then
    insert into osp_metadata.retention default values on conflict (is_only_row) do nothing;
    select r.pruned_through into came_from from osp_metadata.retention as r where r.keep_days is not null for update;
  end if;
  if came_from is not null then
    with prunable as materialized (
      select r.id
      from osp_metadata.find_prunable(came_from, services, batch_size) as f
      inner join osp_metadata.worker_registry as r on r.id = f.deployment_id
      order by r.service_schema, r.revision
      for update of r skip locked
    ), removed as (
      delete from osp_metadata.worker_registry as r
      using prunable
      where r.id = prunable.id
      returning r.service_schema, r.revision, r.manifest_sha256
    ), left_behind as (
      insert into osp_metadata.pruned_objects (path, service_schema, revision)
      select
        osp_metadata.manifest_object(removed.service_schema, removed.revision, removed.manifest_sha256),
        removed.service_schema, removed.revision
      from removed
      where removed.manifest_sha256 is not null
      on conflict (path) do nothing
    )
    select pg_catalog.array_agg(removed.service_schema) into pruned from removed;

    -- The last deployment of a service is pruned only when it was deleted: then nobody needs its mirror either.
    insert into osp_metadata.pruned_objects (path, service_schema)
    select gone.service_schema || '.json', gone.service_schema
    from (select distinct p.service_schema from unnest(pruned) as p (service_schema)) as gone
    where not exists (select from osp_metadata.worker_registry as r where r.service_schema = gone.service_schema)
    on conflict (path) do nothing;

    if pg_catalog.cardinality(pruned) > 0 then
      perform osp_metadata.ring();
    end if;
    -- A full batch may have left some of its last service: that comes again. Past the last service it begins anew.
    select case
      when pg_catalog.cardinality(pruned) >= batch_size
        then coalesce(max(i.service_schema) filter (where i.service_schema < last.service_schema), came_from)
      when pg_catalog.count(*) < services then ''
      else max(i.service_schema)
    end into comes_to
    from (
      select i.service_schema from osp_metadata.service_intents as i
      where i.service_schema > came_from
      order by i.service_schema
      limit services
    ) as i
    cross join (select max(p.service_schema) as service_schema from unnest(pruned) as p (service_schema)) as last;
    update osp_metadata.retention set pruned_through = coalesce(comes_to, '') where pruned_through <> coalesce(comes_to, '');
  end if;
  return osp_metadata.count_pruned_objects();
end;
$$;
comment on function osp_metadata.prune is 'Removes deployments that retention lets go of, at most batch_size of the next services, and lists their objects in pruned_objects. Returns how many objects wait to be removed from Storage, counted up to 1000.';
