-- Purpose: compare what a platform lists with what the registry says: a service that is gone is deployed again, one that
-- was to go is stopped again, and what nobody asked for is reported.

set lock_timeout = '5s'; -- never a queue of writers behind a migration that waits

alter table osp_metadata.platforms add column if not exists reconciled_at timestamptz;
alter table osp_metadata.platforms add column if not exists services_listed integer;
alter table osp_metadata.platforms add column if not exists reconcile_note text;
comment on column osp_metadata.platforms.reconciled_at is 'When a deployer last took its turn to compare what runs there with the registry; null: never.';
comment on column osp_metadata.platforms.services_listed is 'How many services of this database the last comparison found there; null: there was none yet.';
comment on column osp_metadata.platforms.reconcile_note is 'What the last comparison saw and did not act upon yet, and why; null: nothing.';

create table if not exists osp_metadata.orphans (
  platform text not null,
  platform_service_id text not null,
  service_schema text not null,
  reason text not null,
  first_seen_at timestamptz not null default clock_timestamp(),
  last_seen_at timestamptz not null default clock_timestamp(),
  constraint orphans_pkey primary key (platform, platform_service_id)
);
comment on table osp_metadata.orphans is 'Services with this database''s marker on a platform that nobody wants there. They are left alone: only a recorded delete or disable ends a service. A row goes when its service does, or is wanted again.';
comment on column osp_metadata.orphans.platform is 'Where it is: local or railway.';
comment on column osp_metadata.orphans.platform_service_id is 'Its id there; on local the name of the service.';
comment on column osp_metadata.orphans.service_schema is 'Name of the service that it was made for.';
comment on column osp_metadata.orphans.reason is 'Why it is not wanted, and what to do.';
comment on column osp_metadata.orphans.first_seen_at is 'When a deployer first found it.';
comment on column osp_metadata.orphans.last_seen_at is 'When a deployer last found it.';

alter table osp_metadata.orphans enable row level security;

create or replace function osp_metadata.take_reconcile_turn(platform_name text, every_seconds double precision)
returns timestamptz
language sql
volatile
security definer      -- the deployer need not hold rights on each column
set search_path = pg_catalog, pg_temp
as $$
  -- One row: of deployers that ask at once, one gets it. Nothing is held while the platform is asked, which may take long.
  update osp_metadata.platforms
  set reconciled_at = clock_timestamp()
  where
    name = platform_name and paused_at is null
    and (reconciled_at is null or reconciled_at <= clock_timestamp() - pg_catalog.make_interval(secs => every_seconds))
  returning reconciled_at;
$$;
comment on function osp_metadata.take_reconcile_turn is 'Whether it is the caller''s turn to compare a platform with the registry: the time from which on its listing counts, or null.';

create or replace function osp_metadata.as_listed_services(listed jsonb)
returns table (service_schema text, id text, is_running boolean, deployment_id text)
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
  select l.*
  from pg_catalog.jsonb_to_recordset(listed) as l (service_schema text, id text, is_running boolean, deployment_id text);
$$;
comment on function osp_metadata.as_listed_services is 'What a platform lists, as rows. deployment_id: the registry row that it runs, where the platform knows.';

create or replace function osp_metadata.is_under_way(schema_name text)
returns boolean
language sql
stable
security invoker  -- called by functions that run as the owner; nobody else may
set search_path = pg_catalog, pg_temp
as $$
  select
    exists (
      select from osp_metadata.worker_registry as r
      where r.service_schema = schema_name and r.deployment_status in ('pending', 'deploying')
    )
    or exists (
      select from osp_metadata.service_intents as i where i.service_schema = schema_name and i.revision > i.enqueued_revision
    );
$$;
comment on function osp_metadata.is_under_way is 'Whether a revision of the service waits or is being worked on.';

create or replace function osp_metadata.find_lost_services(platform_name text, listed jsonb, listed_at timestamptz)
returns table (deployment_id uuid, service_schema text, revision integer)
language sql
stable
security definer      -- the deployer may not read osp.services
set search_path = pg_catalog, pg_temp
as $$
  with running as materialized (
    select l.service_schema, l.deployment_id from osp_metadata.as_listed_services(listed) as l where l.is_running
  )
  select r.id, r.service_schema, r.revision
  from osp_metadata.worker_registry as r
  inner join osp_metadata.service_intents as i on i.service_schema = r.service_schema
  inner join osp.services as s on s.service_schema = r.service_schema
  where
    r.platform = platform_name and r.deployment_status = 'deployed' and s.enabled and i.wanted = 'run'
    -- What was deployed after the listing cannot be in it.
    and r.deployed_at < listed_at
    and not exists (
      select from running
      where running.service_schema = r.service_schema and (running.deployment_id is null or running.deployment_id = r.id::text)
    )
    -- is_under_way, written out: of 100,000 services it would be called for each.
    and i.revision = i.enqueued_revision
    and not exists (
      select from osp_metadata.worker_registry as n
      where n.service_schema = r.service_schema and n.deployment_status in ('pending', 'deploying')
    );
$$;
comment on function osp_metadata.find_lost_services is 'Deployments that should run on a platform and are not in what it listed at that time, while nothing of the service is under way.';

create or replace function osp_metadata.find_left_services(listed jsonb, listed_at timestamptz)
returns table (deployment_id uuid, service_schema text, revision integer, source text)
language sql
stable
security definer      -- the deployer may not read osp.services
set search_path = pg_catalog, pg_temp
as $$
  select distinct r.id, r.service_schema, r.revision, i.source
  from osp_metadata.as_listed_services(listed) as l
  inner join osp_metadata.service_intents as i on i.service_schema = l.service_schema
  inner join osp_metadata.worker_registry as r on r.service_schema = i.service_schema and r.revision = i.revision
  left join osp.services as s on s.service_schema = i.service_schema
  where
    -- A recorded wish to stop, fulfilled as far as the registry knows: nothing else entitles anybody to end a service.
    i.wanted = 'stop' and i.source in ('delete', 'disable') and s.enabled is not true
    and r.deployment_status = 'stopped' and r.stopped_at < listed_at
    -- What is disabled stays there, stopped; what is deleted goes.
    and (l.is_running or i.source = 'delete');
$$;
comment on function osp_metadata.find_left_services is 'Services that were stopped or removed by a recorded disable or delete, and are there all the same.';

create or replace function osp_metadata.find_leftover_workers(listed jsonb)
returns table (deployment_id text, service_schema text, revision integer)
language sql
stable
security invoker  -- called by reconcile_platform alone, as the owner
set search_path = pg_catalog, pg_temp
as $$
  -- A row that ended never reopens, so nothing may run for it: what a deployer began that had lost its lease. While the
  -- service is under way it may be what serves until the newer one is ready.
  select r.id::text, r.service_schema, r.revision
  from osp_metadata.as_listed_services(listed) as l
  inner join osp_metadata.worker_registry as r on r.id::text = l.deployment_id and r.service_schema = l.service_schema
  where r.deployment_status in ('stopped', 'failed') and not osp_metadata.is_under_way(r.service_schema);
$$;
comment on function osp_metadata.find_leftover_workers is 'Workers that run for a deployment which has ended.';

create or replace function osp_metadata.lost_services_allowed(platform_name text, listed jsonb, listed_at timestamptz, most integer)
returns integer
language plpgsql
stable
security invoker  -- called by reconcile_platform alone, as the owner
set search_path = pg_catalog, pg_temp
as $$
declare
  expected integer := (select pg_catalog.count(*) from osp_metadata.find_lost_services(platform_name, '[]', listed_at));
  missing integer := (select pg_catalog.count(*) from osp_metadata.find_lost_services(platform_name, listed, listed_at));
begin
  if missing <= 3 or missing * 2 <= expected then
    return most;
  end if;
  -- Most of the fleet is missing: it may be so, or the platform does not tell the truth (an outage, half a list). What was
  -- lost lately, deployed again and is listed now proves that the list can be believed.
  if exists (
    select from osp_metadata.as_listed_services(listed) as l
    inner join osp_metadata.worker_registry as lost on lost.service_schema = l.service_schema
    where
      l.is_running and lost.platform = platform_name and lost.error_code = 'service_lost'
      and lost.stopped_at > pg_catalog.clock_timestamp() - interval '1 hour'
  ) then
    return most;
  end if;
  -- Until then one service at a time is deployed again, which harms nobody if it runs after all.
  return case when exists (
    select from osp_metadata.worker_registry as lost
    where
      lost.platform = platform_name and lost.error_code = 'service_lost'
      and lost.stopped_at > pg_catalog.clock_timestamp() - interval '1 hour'
      and osp_metadata.is_under_way(lost.service_schema)
  ) then 0 else 1 end;
end;
$$;
comment on function osp_metadata.lost_services_allowed is 'How many lost services may be deployed again now: most, or one at a time while more than 3 and more than half are missing and nothing proves the listing.';

create or replace function osp_metadata.is_due_again(schema_name text, code text, every_seconds double precision)
returns boolean
language sql
stable
security invoker  -- called by reconcile_platform alone, as the owner
set search_path = pg_catalog, pg_temp
as $$
  select
    pg_catalog.count(*) = 0
    or max(r.stopped_at) + pg_catalog.make_interval(secs => least(every_seconds * 2 ^ (least(pg_catalog.count(*), 20) - 1), 21600))
      <= pg_catalog.clock_timestamp()
  from osp_metadata.worker_registry as r
  where
    r.service_schema = schema_name and r.error_code = code and r.stopped_at > pg_catalog.clock_timestamp() - interval '1 day';
$$;
comment on function osp_metadata.is_due_again is 'Whether a service that met the same fate within a day need wait no longer: one interval after the first time, then 2, 4, 8 … of them, at most 6 hours.';

create or replace function osp_metadata.unlocked_intents(schemas text[])
returns text[]
language plpgsql
volatile
security invoker  -- called by reconcile_platform alone, as the owner
set search_path = pg_catalog, pg_temp
as $$
declare
  free text[];
begin
  -- Who edits a service now is not waited for; the next comparison sees what came of it.
  with unlocked as materialized (
    select i.service_schema
    from osp_metadata.service_intents as i
    where i.service_schema = any (schemas)
    order by i.service_schema  -- everybody locks in this order: no deadlock
    for update skip locked
  )
  select pg_catalog.array_agg(unlocked.service_schema) into free from unlocked;
  return free;
end;
$$;
comment on function osp_metadata.unlocked_intents is 'Locks the intents of these services; returns those that nobody else had locked.';

create or replace function osp_metadata.redeploy_lost(
  platform_name text, listed jsonb, listed_at timestamptz, most integer, every_seconds double precision
)
returns table (service_schema text, revision integer, reason text)
language plpgsql
volatile
security invoker  -- called by reconcile_platform alone, as the owner
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  free text[];
  told constant text := pg_catalog.format('its worker is gone from platform %s', platform_name);
  lost_schemas text[];
  lost_revisions integer[];
begin
  select osp_metadata.unlocked_intents(pg_catalog.array_agg(due.service_schema)) into free
  from (
    select l.service_schema
    from osp_metadata.find_lost_services(platform_name, listed, listed_at) as l
    where osp_metadata.is_due_again(l.service_schema, 'service_lost', every_seconds)
    order by l.service_schema
    limit osp_metadata.lost_services_allowed(platform_name, listed, listed_at, most)
  ) as due;
  if free is null then
    return;
  end if;

  -- Looked for once more, now that they are locked. The deployment ends with the loss, in one step with the request that
  -- follows from it: no loss is acted upon twice.
  with lost as (
    update osp_metadata.worker_registry as r
    set
      deployment_status = 'stopped',
      stopped_at = clock_timestamp(),
      error_code = 'service_lost',
      error_message = told,
      logs = osp_metadata.append_log(r.logs, told || ': a new revision is requested')
    from osp_metadata.find_lost_services(platform_name, listed, listed_at) as l
    where r.id = l.deployment_id and r.deployment_status = 'deployed' and l.service_schema = any (free)
    returning r.service_schema, r.revision
  )
  select pg_catalog.array_agg(lost.service_schema), pg_catalog.array_agg(lost.revision) into lost_schemas, lost_revisions from lost;

  perform osp_metadata.record_intents(array_agg(l.service_schema), array_agg('run'::text), array_agg('reconcile'::text))
  from (select distinct unnest(lost_schemas) as service_schema) as l;
  return query
  select l.service_schema, l.revision, told from unnest(lost_schemas, lost_revisions) as l (service_schema, revision);
end;
$$;
comment on function osp_metadata.redeploy_lost is 'Ends the deployments whose worker is gone, and requests a new revision of each service.';

create or replace function osp_metadata.stop_left(
  platform_name text, listed jsonb, listed_at timestamptz, most integer, every_seconds double precision
)
returns table (service_schema text, revision integer, reason text)
language plpgsql
volatile
security invoker  -- called by reconcile_platform alone, as the owner
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  free text[];
  told constant text := pg_catalog.format('it is on platform %s all the same', platform_name);
  left_schemas text[];
  left_revisions integer[];
  left_sources text[];
begin
  select osp_metadata.unlocked_intents(pg_catalog.array_agg(due.service_schema)) into free
  from (
    select l.service_schema
    from osp_metadata.find_left_services(listed, listed_at) as l
    where osp_metadata.is_due_again(l.service_schema, 'service_left', every_seconds)
    order by l.service_schema
    limit most
  ) as due;
  if free is null then
    return;
  end if;

  -- Looked for once more, now that they are locked. By a revision, so that whoever inserts it again meanwhile is in turn.
  with still_there as (
    update osp_metadata.worker_registry as r
    set
      error_code = 'service_left',
      error_message = told,
      logs = osp_metadata.append_log(r.logs, told || ': its stop is requested again')
    from osp_metadata.find_left_services(listed, listed_at) as l
    where r.id = l.deployment_id and r.deployment_status = 'stopped' and l.service_schema = any (free)
    returning r.service_schema, r.revision, l.source
  )
  select pg_catalog.array_agg(s.service_schema), pg_catalog.array_agg(s.revision), pg_catalog.array_agg(s.source)
  into left_schemas, left_revisions, left_sources
  from still_there as s;

  perform osp_metadata.record_intents(array_agg(l.service_schema), array_agg('stop'::text), array_agg(l.source))
  from unnest(left_schemas, left_sources) as l (service_schema, source);
  return query
  select l.service_schema, l.revision, told from unnest(left_schemas, left_revisions) as l (service_schema, revision);
end;
$$;
comment on function osp_metadata.stop_left is 'Requests once more to stop or remove what a recorded disable or delete was to end, and what is there all the same.';

create or replace function osp_metadata.find_orphans(platform_name text, listed jsonb)
returns table (platform_service_id text, service_schema text, reason text)
language sql
stable
security invoker  -- called by reconcile_platform alone, as the owner
set search_path = pg_catalog, pg_temp
as $$
  select distinct on (l.id) l.id, l.service_schema, why.reason
  from osp_metadata.as_listed_services(listed) as l
  left join osp.services as s on s.service_schema = l.service_schema
  left join osp_metadata.service_intents as i on i.service_schema = l.service_schema
  left join osp_metadata.worker_registry as newest on newest.service_schema = i.service_schema and newest.revision = i.revision
  left join lateral (
    select r.revision, r.platform from osp_metadata.worker_registry as r
    where r.service_schema = l.service_schema and r.deployment_status = 'deployed' and r.platform <> platform_name
    order by r.revision desc
    limit 1
  ) as elsewhere on true
  cross join lateral (
    select case
      when s.id is null and i.service_schema is null then pg_catalog.format(
        'osp.services has no row "%s", and no delete of it was recorded. To keep it, insert the row; to end it: select osp.remove_orphan(''%s'')',
        l.service_schema, l.service_schema
      )
      when i.wanted = 'stop' and newest.deployment_status = 'failed' then pg_catalog.format(
        'Its stop (revision %s) failed: %s. Try again: select osp.remove_orphan(''%s'')', newest.revision, newest.error_message, l.service_schema
      )
      when l.is_running and elsewhere.revision is not null then pg_catalog.format(
        'It runs on platform %s by now (revision %s). End it on %s by hand', elsewhere.platform, elsewhere.revision, platform_name
      )
    end as reason
  ) as why
  where why.reason is not null
  order by l.id, l.is_running desc;
$$;
comment on function osp_metadata.find_orphans is 'What a platform lists and nobody wants there, and why; nothing of it may be ended.';

create or replace function osp_metadata.report_orphans(platform_name text, listed jsonb)
returns table (platform_service_id text, service_schema text, reason text)
language plpgsql
volatile
security invoker  -- called by reconcile_platform alone, as the owner
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  found_ids text[];
  found_schemas text[];
  found_reasons text[];
begin
  select pg_catalog.array_agg(f.platform_service_id), pg_catalog.array_agg(f.service_schema), pg_catalog.array_agg(f.reason)
  into found_ids, found_schemas, found_reasons
  from osp_metadata.find_orphans(platform_name, listed) as f;

  delete from osp_metadata.orphans as o
  where o.platform = platform_name and (found_ids is null or o.platform_service_id <> all (found_ids));

  return query
  with reported as (
    insert into osp_metadata.orphans as o (platform, platform_service_id, service_schema, reason)
    select platform_name, f.id, f.service_schema, f.reason
    from unnest(found_ids, found_schemas, found_reasons) as f (id, service_schema, reason)
    on conflict (platform, platform_service_id) do update set
      service_schema = excluded.service_schema, reason = excluded.reason, last_seen_at = clock_timestamp()
    returning o.*, o.xmax = 0 as is_new
  )
  select reported.platform_service_id, reported.service_schema, reported.reason
  from reported
  where reported.is_new; -- the others were told before
end;
$$;
comment on function osp_metadata.report_orphans is 'Brings the table orphans up to date for a platform, and returns those that are new in it.';

create or replace function osp_metadata.reconcile_platform(
  platform_name text, listed jsonb, listed_at timestamptz, every_seconds double precision, most integer default 20
)
returns table (finding text, service_schema text, revision integer, deployment_id text, platform_service_id text, reason text)
language plpgsql
volatile
security definer      -- the deployer holds no rights on osp.services and the intents
set search_path = pg_catalog, pg_temp
set lock_timeout = '3s'  -- the deployer's next turn finds the same
as $$
#variable_conflict use_column
declare
  missing integer;
  redeployed integer := 0;
begin
  perform osp_metadata.lock_services();

  return query
  select 'leftover', l.service_schema, l.revision, l.deployment_id, null::text, 'its deployment has ended'
  from osp_metadata.find_leftover_workers(listed) as l;

  select pg_catalog.count(*) into missing from osp_metadata.find_lost_services(platform_name, listed, listed_at);
  if missing > 0 then
    return query
    select 'lost', l.service_schema, l.revision, null::text, null::text, l.reason
    from osp_metadata.redeploy_lost(platform_name, listed, listed_at, most, every_seconds) as l;
    get diagnostics redeployed = row_count;
  end if;

  return query
  select 'left', l.service_schema, l.revision, null::text, null::text, l.reason
  from osp_metadata.stop_left(platform_name, listed, listed_at, most, every_seconds) as l;

  return query
  select 'orphan', o.service_schema, null::integer, null::text, o.platform_service_id, o.reason
  from osp_metadata.report_orphans(platform_name, listed) as o;

  update osp_metadata.platforms as p
  set
    services_listed = (
      select pg_catalog.count(distinct l.service_schema) from osp_metadata.as_listed_services(listed) as l
    ),
    reconcile_note = case when missing > redeployed then pg_catalog.format(
      '%s services should run there and are not listed; %s of them were requested again now, the others follow: some at a time, '
      || 'one at a time while most of the fleet is missing, and later what was lost before',
      missing, redeployed
    ) end
  where p.name = platform_name;
end;
$$;
comment on function osp_metadata.reconcile_platform is 'Compares what a platform listed at a time (a JSON array of service_schema, id, is_running, deployment_id) with the registry. Requests lost services again, at most most at once, and stops that were not effective; records orphans; returns what it found. Leftover workers are the deployer''s to end.';

create or replace function osp.remove_orphan(schema text)
returns table (revision integer, deployment_id uuid)
language plpgsql
volatile
security definer      -- who may ask holds no rights on the intents
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  asked_for text := remove_orphan.schema;
begin
  if exists (select from osp.services as s where s.service_schema = asked_for) then
    raise exception using
      errcode = 'object_in_use',
      message = pg_catalog.format('Cannot remove "%s" as an orphan: osp.services has a row that wants it', asked_for),
      hint = pg_catalog.format('delete from osp.services where service_schema = %L', asked_for);
  elsif not exists (select from osp_metadata.orphans as o where o.service_schema = asked_for) then
    raise exception using
      errcode = 'no_data_found',
      message = pg_catalog.format('Cannot remove "%s" as an orphan: no platform has one of that name', asked_for),
      hint = 'See which there are: select service_schema, platform, reason from osp_metadata.orphans';
  end if;
  perform osp_metadata.record_intents(array[asked_for], array['stop'], array['delete']);
  return query
  select i.revision, i.deployment_id from osp_metadata.service_intents as i where i.service_schema = asked_for;
end;
$$;
comment on function osp.remove_orphan is 'Records the delete of a service that is on a platform and in no row of osp.services: its worker is then removed. Returns the revision that does it, and its deployment id.';

revoke all on osp_metadata.orphans from public, anon, authenticated;
revoke all on function
  osp_metadata.take_reconcile_turn, osp_metadata.as_listed_services, osp_metadata.is_under_way, osp_metadata.find_lost_services, osp_metadata.find_left_services,
  osp_metadata.find_leftover_workers, osp_metadata.lost_services_allowed, osp_metadata.is_due_again, osp_metadata.unlocked_intents,
  osp_metadata.redeploy_lost, osp_metadata.stop_left, osp_metadata.find_orphans, osp_metadata.report_orphans,
  osp_metadata.reconcile_platform, osp.remove_orphan
from public, anon, authenticated;
grant execute on function
  osp_metadata.take_reconcile_turn, osp_metadata.find_lost_services, osp_metadata.reconcile_platform
to osp_deployer;
grant execute on function osp.remove_orphan to service_role, osp_writer;
grant select on osp_metadata.orphans to service_role, osp_writer, osp_deployer, osp_analyst;

do $$
declare
  reader text;
begin
  foreach reader in array array['service_role', 'osp_writer', 'osp_deployer', 'osp_analyst']
  loop
    execute pg_catalog.format('drop policy if exists %I on osp_metadata.orphans', reader);
    execute pg_catalog.format('create policy %I on osp_metadata.orphans for select to %I using (true)', reader, reader);
  end loop;
end;
$$;
