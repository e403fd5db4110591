-- Purpose: nobody who has a row locked, or a table, holds up what the deployers and the Edge Function do for others: what can be
-- left to the next time is not waited for, and everything else for a limited time, by the server's own clock: a session whose client
-- has given up goes on waiting.

set lock_timeout = '5s'; -- never a queue of writers behind a migration that waits

create or replace function osp_metadata.free_slots(platform_name text)
returns integer
language plpgsql
volatile
security definer      -- the registry's rows of all deployers, whatever of it the caller may read
set search_path = pg_catalog, pg_temp
set lock_timeout = '1s'  -- what another claim takes at most
as $$
declare
  most integer;
begin
  select p.concurrency_limit into most from osp_metadata.platforms as p where p.name = platform_name;
  if most is null then
    return null; -- the usual case costs no lock
  end if;
  -- Claims on a limited platform stand in line here, each until the one before it is committed. Not at the platform's row, which a
  -- person may have locked.
  perform pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtext('osp_metadata.free_slots'), pg_catalog.hashtext(platform_name));
  -- Statements of their own, for their newer snapshots: they see the limit as it is by now, and what that claim has taken. A lease
  -- that ran out holds no slot, else nobody could take over what a killed deployer left.
  select p.concurrency_limit into most from osp_metadata.platforms as p where p.name = platform_name;
  return (
    select greatest(most - pg_catalog.count(*)::integer, 0)
    from osp_metadata.worker_registry as r
    where r.platform = platform_name and r.deployment_status = 'deploying' and r.lease_expires_at > pg_catalog.clock_timestamp()
  );
end;
$$;

create or replace function osp_metadata.take_reconcile_turn(platform_name text, every_seconds double precision)
returns timestamptz
language sql
volatile
security definer      -- the deployer need not hold rights on each column
set search_path = pg_catalog, pg_temp
set lock_timeout = '3s'
as $$
  -- One row: of deployers that ask at once, one gets it; nobody does while somebody has it locked. Nothing is held while the
  -- platform is asked, which may take long.
  with due as materialized (
    select p.name
    from osp_metadata.platforms as p
    where
      p.name = platform_name and p.paused_at is null
      and (p.reconciled_at is null or p.reconciled_at <= clock_timestamp() - pg_catalog.make_interval(secs => every_seconds))
    for update skip locked
  )
  update osp_metadata.platforms as p
  set reconciled_at = clock_timestamp()
  from due
  where p.name = due.name
  returning p.reconciled_at;
$$;

create or replace function osp_metadata.take_health_turn(platform_name text, every_seconds double precision)
returns boolean
language sql
volatile
security definer      -- the deployer need not hold rights on each column
set search_path = pg_catalog, pg_temp
set lock_timeout = '3s'
as $$
  with due as materialized (
    select p.name
    from osp_metadata.platforms as p
    where
      p.name = platform_name
      and (
        p.health_checked_at is null
        or p.health_checked_at <= clock_timestamp() - pg_catalog.make_interval(secs => every_seconds)
      )
    for update skip locked
  ), taken as (
    update osp_metadata.platforms as p
    set health_checked_at = clock_timestamp()
    from due
    where p.name = due.name
    returning p.name
  )
  select exists (select from taken);
$$;

create or replace function osp_metadata.record_health(platform_name text, seen jsonb)
returns table (service_schema text, revision integer, seen_at timestamptz)
language plpgsql
volatile
security definer      -- the deployer need not hold rights on each column
set search_path = pg_catalog, pg_temp
set lock_timeout = '3s'
as $$
#variable_conflict use_column
declare
  checked_at constant timestamptz := clock_timestamp();
begin
  -- Of a row that somebody has locked the next look tells: waiting for it, this would hold all the others up.
  with living as materialized (
    select r.id, s.worker_version
    from (
      select distinct on (s.service_schema, s.revision) s.*
      from pg_catalog.jsonb_to_recordset(seen) as s (service_schema text, revision integer, worker_version text)
      order by s.service_schema, s.revision, s.worker_version desc
    ) as s
    inner join osp_metadata.worker_registry as r on r.service_schema = s.service_schema and r.revision = s.revision
    where r.platform = platform_name and r.deployment_status = 'deployed'
    order by r.service_schema, r.revision  -- everybody locks in this order: no deadlock
    for update of r skip locked
  )
  update osp_metadata.worker_registry as r
  set last_health_check = checked_at, worker_version = living.worker_version
  from living
  where r.id = living.id;

  return query
  select r.service_schema, r.revision, r.last_health_check
  from osp_metadata.worker_registry as r
  where
    r.platform = platform_name and r.deployment_status = 'deployed' and r.last_health_check < checked_at - interval '2 minutes'
    -- What lives and could not be written down is not silent. "not in" reads them once, and only where one looks silent; "not
    -- exists" may read them once for each that does.
    and (r.service_schema, r.revision) not in (
      select s.service_schema, s.revision
      from pg_catalog.jsonb_to_recordset(seen) as s (service_schema text, revision integer)
      where s.service_schema is not null and s.revision is not null
    )
  order by r.last_health_check
  limit 100;
end;
$$;

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
  lost_schemas text[];
  lost_revisions integer[];
  lost_reasons text[];
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
  -- follows from it: no loss is acted upon twice. One whose row somebody has locked is the next comparison's.
  with found as materialized (
    select r.id, l.reason
    from osp_metadata.find_lost_services(platform_name, listed, listed_at) as l
    inner join osp_metadata.worker_registry as r on r.id = l.deployment_id
    where r.deployment_status = 'deployed' and l.service_schema = any (free)
    order by r.service_schema, r.revision  -- everybody locks in this order: no deadlock
    for update of r skip locked
  ), lost as (
    update osp_metadata.worker_registry as r
    set
      deployment_status = 'stopped',
      stopped_at = clock_timestamp(),
      error_code = 'service_lost',
      error_message = found.reason,
      logs = osp_metadata.append_log(r.logs, found.reason || ': a new revision is requested')
    from found
    where r.id = found.id
    returning r.service_schema, r.revision, found.reason
  )
  select pg_catalog.array_agg(lost.service_schema), pg_catalog.array_agg(lost.revision), pg_catalog.array_agg(lost.reason)
  into lost_schemas, lost_revisions, lost_reasons
  from lost;

  perform osp_metadata.record_intents(array_agg(l.service_schema), array_agg('run'::text), array_agg('reconcile'::text))
  from (select distinct unnest(lost_schemas) as service_schema) as l;
  return query
  select l.service_schema, l.revision, l.reason
  from unnest(lost_schemas, lost_revisions, lost_reasons) as l (service_schema, revision, reason);
end;
$$;

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

  -- Looked for once more, now that they are locked. By a revision, so that whoever inserts it again meanwhile is in turn. One
  -- whose row somebody has locked is the next comparison's.
  with found as materialized (
    select l.* from osp_metadata.find_left_services(listed, listed_at) as l where l.service_schema = any (free)
  ), unlocked as materialized (
    select r.id
    from osp_metadata.worker_registry as r
    where r.id in (select found.deployment_id from found) and r.deployment_status = 'stopped'
    order by r.service_schema, r.revision  -- everybody locks in this order: no deadlock
    for update skip locked
  ), marked as (
    update osp_metadata.worker_registry as r
    set
      error_code = 'service_left',
      error_message = told,
      logs = osp_metadata.append_log(r.logs, told || ': its stop is requested again')
    from unlocked
    where r.id = unlocked.id
    returning r.id
  )
  select pg_catalog.array_agg(f.service_schema), pg_catalog.array_agg(f.revision), pg_catalog.array_agg(f.source)
  into left_schemas, left_revisions, left_sources
  from found as f
  -- Without a row there is nothing to mark; the new revision is the row of the next time.
  where f.deployment_id is null or f.deployment_id in (select marked.id from marked);

  perform osp_metadata.record_intents(array_agg(l.service_schema), array_agg('stop'::text), array_agg(l.source))
  from unnest(left_schemas, left_sources) as l (service_schema, source);
  return query
  select l.service_schema, l.revision, told from unnest(left_schemas, left_revisions) as l (service_schema, revision);
end;
$$;

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

  -- A note for people: whoever has the platform's row locked must not undo what was found.
  perform from osp_metadata.platforms as p where p.name = platform_name for update skip locked;
  if found then
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
  end if;
end;
$$;

create or replace function osp_metadata.lock_open_deployments(schema_name text, wanted text, wait_until timestamptz)
returns boolean
language plpgsql
volatile
security invoker  -- called by enqueue_deployments alone, as the owner
set search_path = pg_catalog, pg_temp
set lock_timeout = '2s'  -- so that what is set below ends with this function
as $$
begin
  -- 1 ms once the time is over: 0 would be without limit.
  perform pg_catalog.set_config(
    'lock_timeout',
    greatest(pg_catalog.ceil(extract(epoch from wait_until - clock_timestamp()) * 1000), 1)::integer || 'ms',
    true
  );
  -- In the order of their revisions, as everybody does: what is deployed was there before what waits. One status a statement,
  -- because each has a unique index of its own by service.
  perform from osp_metadata.worker_registry as r
  where r.service_schema = schema_name and r.deployment_status = 'deploying'
  for update;
  perform from osp_metadata.worker_registry as r
  where r.service_schema = schema_name and r.deployment_status = 'pending'
  for update;
  if wanted = 'stop' then
    perform from osp_metadata.worker_registry as r
    where r.service_schema = schema_name and r.deployment_status = 'deployed'
    order by r.revision
    for update;
  end if;
  return true;
exception when lock_not_available then
  return false;  -- and what it had locked is free again
end;
$$;
comment on function osp_metadata.lock_open_deployments is 'Locks what a new revision of a service supersedes, and a stop its worker. False: somebody has it locked, until wait_until at least.';

create or replace function osp_metadata.supersede(schema_name text, by_revision integer, wanted text)
returns void
language plpgsql
security invoker  -- called by enqueue_deployments alone, as the owner, for what lock_open_deployments has locked
set search_path = pg_catalog, pg_temp
as $$
begin
  -- Statements after those that locked, each with a newer snapshot: they see what a claim or a settlement under way has left.
  --
  -- Whoever deploys it sees this when it next renews its lease.
  update osp_metadata.worker_registry as r
  set
    stop_requested_at = clock_timestamp(),
    logs = osp_metadata.append_log(r.logs, pg_catalog.format('superseded by revision %s', by_revision))
  where r.service_schema = schema_name and r.deployment_status = 'deploying' and r.stop_requested_at is null;

  update osp_metadata.worker_registry as r
  set
    deployment_status = 'stopped',
    stopped_at = clock_timestamp(),
    next_attempt_at = null,
    logs = osp_metadata.append_log(r.logs, pg_catalog.format('superseded by revision %s before it was deployed', by_revision))
  where r.service_schema = schema_name and r.deployment_status = 'pending';

  if wanted = 'stop' then
    update osp_metadata.worker_registry as r
    set
      stop_requested_at = clock_timestamp(),
      logs = osp_metadata.append_log(r.logs, pg_catalog.format('asked to stop by revision %s', by_revision))
    where r.service_schema = schema_name and r.deployment_status = 'deployed' and r.stop_requested_at is null;
  end if;
end;
$$;

create or replace function osp_metadata.enqueue_deployments(deployments jsonb)
returns table (service_schema text, revision integer, deployment_status text, is_newest boolean)
language plpgsql
volatile
security definer      -- the Edge Function holds no rights on the registry
set search_path = pg_catalog, pg_temp
set lock_timeout = '3s'  -- less than the Edge Function waits for an answer
as $$
#variable_conflict use_column
declare
  free text[];
  accepted text[];
  locked text[];
  wait_until constant timestamptz := clock_timestamp() + interval '2 seconds';  -- for all of them together
begin
  -- Who edits a service now is not waited for: an open transaction would hold the whole batch up. What it holds is not
  -- accepted and waits on, and so does the newer revision that it makes.
  with unlocked as materialized (
    select i.service_schema
    from osp_metadata.service_intents as i
    where i.service_schema in (select d ->> 'service_schema' from pg_catalog.jsonb_array_elements(deployments) as d)
    order by i.service_schema  -- everybody locks in this order: no deadlock
    for update skip locked
  )
  select pg_catalog.array_agg(unlocked.service_schema) into free from unlocked;

  -- Fenced: who lost the lease, or brings a revision that was enqueued already, changes nothing.
  select pg_catalog.array_agg(i.service_schema) into accepted
  from osp_metadata.as_deployments(deployments) as d
  inner join osp_metadata.service_intents as i on i.service_schema = d.service_schema
  where
    i.service_schema = any (free)
    and i.lease_token = d.lease_token and d.revision <= i.revision and d.revision > i.enqueued_revision
    -- A number that the registry has already (intents from an older backup) waits for reconcile, which gives it another.
    and not exists (
      select from osp_metadata.worker_registry as r where r.service_schema = d.service_schema and r.revision >= d.revision
    );

  -- What it supersedes somebody may have locked, for a moment or until after lunch. That holds up its own service alone.
  select pg_catalog.array_agg(d.service_schema) filter (where not d.is_ours) into locked
  from (
    select d.service_schema, osp_metadata.lock_open_deployments(d.service_schema, d.wanted, wait_until) as is_ours
    from osp_metadata.as_deployments(deployments) as d
    where d.service_schema = any (accepted) and d.error_code is null  -- a refused revision supersedes nothing
    order by d.service_schema
  ) as d;
  if locked is not null then
    select pg_catalog.array_agg(a.service_schema) into accepted
    from pg_catalog.unnest(accepted) as a (service_schema)
    where a.service_schema <> all (locked);
    update osp_metadata.service_intents as i
    set
      last_error = pg_catalog.format(
        'Another session has a deployment of service "%s" in osp_metadata.worker_registry locked: it waits until that transaction ends '
        || '(pg_stat_activity and pg_blocking_pids() show whose it is)',
        i.service_schema
      ),
      last_error_at = clock_timestamp()
    where i.service_schema = any (locked);
  end if;

  if coalesce(pg_catalog.cardinality(accepted), 0) < pg_catalog.jsonb_array_length(deployments) then
    -- What is not accepted may have its object: that goes once a newer revision is enqueued, and stays if this one is after all.
    insert into osp_metadata.pruned_objects (path, service_schema, revision)
    select osp_metadata.manifest_object(d.service_schema, d.revision, d.manifest_sha256), d.service_schema, d.revision
    from osp_metadata.as_deployments(deployments) as d
    inner join osp_metadata.service_intents as i on i.service_schema = d.service_schema
    where d.manifest_sha256 is not null and not coalesce(d.service_schema = any (accepted), false)
    on conflict (path) do nothing;
  end if;

  perform osp_metadata.supersede(d.service_schema, d.revision, d.wanted)
  from osp_metadata.as_deployments(deployments) as d
  where d.service_schema = any (accepted) and d.error_code is null  -- a refused revision leaves the older one alone
  order by d.service_schema;

  return query
  with enqueued as (
    insert into osp_metadata.worker_registry as r (
      id, service_schema, manifest_path, revision, source, rolled_back_to, requested_at, requested_by, service_id, spec,
      spec_hash, manifest, manifest_sha256, deployment_status, stop_requested_at, error_code, error_message, logs
    )
    select
      d.deployment_id, d.service_schema, 'manifests/' || d.service_schema || '.json', d.revision, d.source, d.rolled_back_to,
      -- A function from before it passed this on: the intent still knows, if it has not been edited since.
      coalesce(d.requested_at, case when i.revision = d.revision then i.requested_at end), d.requested_by,
      (d.spec ->> 'id')::uuid, d.spec, d.spec_hash, d.manifest, d.manifest_sha256,
      case when d.error_code is null then 'pending' else 'failed' end,
      case when d.wanted = 'stop' and d.error_code is null then clock_timestamp() end,
      d.error_code, d.error_message,
      osp_metadata.append_log(null, coalesce(
        d.error_message,
        pg_catalog.format('revision %s enqueued (%s%s)', d.revision, d.source, ' to revision ' || d.rolled_back_to)
      ))
    from osp_metadata.as_deployments(deployments) as d
    inner join osp_metadata.service_intents as i on i.service_schema = d.service_schema
    where d.service_schema = any (accepted)
    order by d.service_schema
    returning r.service_schema, r.revision, r.deployment_status
  ), acknowledged as (
    update osp_metadata.service_intents as i
    set
      enqueued_revision = enqueued.revision, lease_token = null, lease_expires_at = null, attempts = 0,
      last_error = null, last_error_at = null
    from enqueued
    where i.service_schema = enqueued.service_schema
    returning i.service_schema, i.revision = enqueued.revision as is_newest
  )
  select enqueued.service_schema, enqueued.revision, enqueued.deployment_status, acknowledged.is_newest
  from enqueued
  inner join acknowledged on acknowledged.service_schema = enqueued.service_schema;

  perform pg_catalog.pg_notify('worker_registry', '');
end;
$$;
comment on function osp_metadata.enqueue_deployments is 'Acknowledges taken intents: one pending (or refused: failed) row of worker_registry each. Returns only what was accepted: not what is being edited, was taken by another, has a number that the registry knows already or would supersede what somebody has locked (last_error tells of that).';

revoke all on function osp_metadata.lock_open_deployments from public, anon, authenticated, service_role;

-- The rest waits for a limited time. A supervisor that could not write its name down tries again, in between its own renewals.
alter function osp_metadata.record_supervisor(text, text, double precision) set lock_timeout = '250ms';
alter function osp_metadata.end_silent_supervisor(text) set lock_timeout = '1s';
alter function osp_metadata.release_intents(uuid, text[], text, boolean) set lock_timeout = '3s';
-- These lock nothing, but somebody may have a table.
alter function osp_metadata.count_waiting_intents(integer) set lock_timeout = '3s';
alter function osp_metadata.count_unused_code() set lock_timeout = '3s';
alter function osp_metadata.find_lost_services(text, jsonb, timestamptz) set lock_timeout = '3s';
