-- Purpose: what the Edge Function calls: take intents under a lease, and enqueue their deployments.

set lock_timeout = '5s'; -- never a queue of writers behind a migration that waits

create or replace function osp_metadata.count_waiting_intents(older_than_seconds integer default 0)
returns integer
language sql
stable
security definer
set search_path = ''
as $$
  select pg_catalog.count(*)::integer
  from osp_metadata.service_intents as i
  where
    i.revision > i.enqueued_revision
    and i.requested_at <= pg_catalog.clock_timestamp() - pg_catalog.make_interval(secs => older_than_seconds)
    and (i.lease_expires_at is null or i.lease_expires_at <= pg_catalog.clock_timestamp());
$$;
comment on function osp_metadata.count_waiting_intents is 'How many intents wait to be taken, requested at least so many seconds ago.';

create or replace function osp_metadata.fail_exhausted_intents()
returns void
language plpgsql
security invoker  -- called by take_intents alone, as the owner
set search_path = ''
as $$
begin
  with exhausted as (
    select i.service_schema, i.last_error
    from osp_metadata.service_intents as i
    where
      i.revision > i.enqueued_revision and i.attempts >= 5
      and (i.lease_expires_at is null or i.lease_expires_at <= clock_timestamp())
    order by i.service_schema
    for update skip locked
  ), settled as (
    update osp_metadata.service_intents as i
    set
      enqueued_revision = i.revision, lease_token = null, lease_expires_at = null, attempts = 0,
      last_error = null, last_error_at = null
    from exhausted
    where i.service_schema = exhausted.service_schema
    returning i.service_schema, i.revision, i.source, i.requested_by, i.deployment_id, exhausted.last_error as told
  )
  insert into osp_metadata.worker_registry (
    id, service_schema, manifest_path, revision, source, requested_by, deployment_status, error_code, error_message, logs
  )
  select
    s.deployment_id, s.service_schema, 'manifests/' || s.service_schema || '.json', s.revision, s.source, s.requested_by,
    'failed', 'manifest_build_crashed', reason.text, osp_metadata.append_log(null, reason.text)
  from settled as s
  cross join lateral (
    select pg_catalog.format(
      'The Edge Function queue-worker-build ended 5 times while it built the manifest of service "%s" revision %s%s. '
      || 'See its log, correct the row and then: select osp.redeploy(''%s'')',
      s.service_schema, s.revision, ', and told: ' || s.told, s.service_schema
    ) as text
  ) as reason
  -- A revision that the registry has already (restored intents) must not end every taking.
  on conflict (service_schema, revision) do nothing;
end;
$$;
comment on function osp_metadata.fail_exhausted_intents is 'An intent that ended the Edge Function, or was refused by enqueue_deployments, 5 times becomes a failed deployment.';

create or replace function osp_metadata.lock_services()
returns void
language plpgsql
security invoker  -- called by functions that run as the owner; nobody else may
set search_path = ''
as $$
begin
  -- TRUNCATE locks the table, then, by its trigger, the intents. In the other order the two would be a deadlock.
  lock table osp.services in access share mode;
exception when lock_not_available then
  raise exception using
    errcode = 'lock_not_available',
    message = 'Cannot read osp.services: it is locked by a TRUNCATE or ALTER TABLE whose transaction is open. End that transaction; '
      || 'what waits then goes on. Whose it is: select pid, mode, granted from pg_locks where relation = ''osp.services''::regclass';
end;
$$;
comment on function osp_metadata.lock_services is 'Keeps TRUNCATE away from osp.services until the transaction ends; called before any intent is locked. Raises 55P03 after lock_timeout.';

create or replace function osp_metadata.hash_spec(service_name text, workflows jsonb, options jsonb)
returns text
language sql
immutable
strict
set search_path = ''
as $$
  select pg_catalog.md5(pg_catalog.jsonb_build_array(service_name, workflows, coalesce(same.options, options))::text)
  from (
    -- 30 and 30.0 are equal, and two texts.
    select pg_catalog.jsonb_object_agg(key, case
      when pg_catalog.jsonb_typeof(value) = 'number' then pg_catalog.to_jsonb(pg_catalog.trim_scale(value::numeric)) else value
    end) as options
    from pg_catalog.jsonb_each(options)
  ) as same;
$$;
comment on function osp_metadata.hash_spec is 'What of a service reaches its worker, as a hash. SQL alone computes it: JavaScript cannot hold every number of jsonb.';

create or replace function osp_metadata.take_intents(batch_size integer default 50, lease_seconds integer default 30)
returns table (
  service_schema text,
  revision integer,
  wanted text,
  source text,
  requested_by text,
  deployment_id uuid,
  lease_token uuid,
  spec jsonb,
  spec_hash text
)
language plpgsql
volatile
security definer      -- the Edge Function holds no rights on the tables
set search_path = ''
set lock_timeout = '3s'  -- less than the Edge Function waits for an answer
as $$
#variable_conflict use_column
declare
  token uuid := pg_catalog.gen_random_uuid();
  taken text[];
  is_suspect boolean;
begin
  perform osp_metadata.lock_services();
  perform osp_metadata.fail_exhausted_intents();

  -- What ended a run of the function twice is taken alone, so that it cannot take others along.
  select i.attempts >= 2 into is_suspect
  from osp_metadata.service_intents as i
  where i.revision > i.enqueued_revision and (i.lease_expires_at is null or i.lease_expires_at <= clock_timestamp())
  order by i.requested_at, i.service_schema
  limit 1
  for update skip locked;  -- one that cannot be taken now decides nothing

  with waiting as materialized (
    select i.service_schema
    from osp_metadata.service_intents as i
    where
      i.revision > i.enqueued_revision
      and (i.lease_expires_at is null or i.lease_expires_at <= clock_timestamp())
      and (i.attempts >= 2) = is_suspect
    order by i.requested_at, i.service_schema
    limit case when is_suspect then 1 else batch_size end
    for update skip locked  -- a second function takes the next ones
  ), leased as (
    update osp_metadata.service_intents as i
    set
      lease_token = token,
      lease_expires_at = clock_timestamp() + pg_catalog.make_interval(secs => lease_seconds),
      attempts = i.attempts + 1
    from waiting
    where i.service_schema = waiting.service_schema
    returning i.service_schema
  )
  select pg_catalog.array_agg(leased.service_schema) into taken from leased;

  -- A statement of its own, for its newer snapshot: the intents are locked, so what it reads of osp.services is exactly
  -- what the locked revision was made from. In the statement above an edit could slip in between the two.
  return query
  select
    i.service_schema, i.revision, i.wanted, i.source, i.requested_by, i.deployment_id, i.lease_token,
    case when s.id is not null then pg_catalog.jsonb_build_object(
      'id', s.id, 'service_schema', s.service_schema, 'service_name', s.service_name,
      'workflows', s.workflows, 'options', s.options, 'enabled', s.enabled
    ) end,
    osp_metadata.hash_spec(s.service_name, s.workflows, s.options)
  from osp_metadata.service_intents as i
  left join osp.services as s on s.service_schema = i.service_schema
  where i.service_schema = any (taken)
  order by i.service_schema;
end;
$$;
comment on function osp_metadata.take_intents is 'Leases up to batch_size waiting intents, oldest first, each with the service as it stands at that revision.';

create or replace function osp_metadata.release_intents(
  lease_token uuid, schemas text[], reason text default null, counts_as_try boolean default false
)
returns integer
language sql
volatile
security definer
set search_path = ''
as $$
  with held as materialized (
    select i.service_schema
    from osp_metadata.service_intents as i
    where i.service_schema = any (release_intents.schemas) and i.lease_token = release_intents.lease_token
    order by i.service_schema  -- everybody locks in this order: no deadlock
    for update skip locked  -- one that is being edited: its lease ends by itself
  ), released as (
    update osp_metadata.service_intents as i
    set
      lease_token = null,
      lease_expires_at = null,
      -- Mostly a dependency was away and the intent is not at fault.
      attempts = case when release_intents.counts_as_try then i.attempts else greatest(i.attempts - 1, 0) end,
      last_error = coalesce(pg_catalog.left(release_intents.reason, 4096), i.last_error),
      last_error_at = case when release_intents.reason is null then i.last_error_at else clock_timestamp() end
    from held
    where i.service_schema = held.service_schema
    returning i.service_schema
  )
  select pg_catalog.count(*)::integer from released;
$$;
comment on function osp_metadata.release_intents is 'Gives taken intents back and records the reason, if there is one; they wait on. Returns how many; one that is being edited keeps its lease until that ends.';

create or replace function osp_metadata.enqueue_deployments(deployments jsonb)
returns table (service_schema text, revision integer, deployment_status text, is_newest boolean)
language plpgsql
volatile
security definer      -- the Edge Function holds no rights on the registry
set search_path = ''
set lock_timeout = '3s'  -- less than the Edge Function waits for an answer
as $$
#variable_conflict use_column
declare
  free text[];
  accepted text[];
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

  perform osp_metadata.supersede(d.service_schema, d.revision, d.wanted)
  from osp_metadata.as_deployments(deployments) as d
  where d.service_schema = any (accepted) and d.error_code is null  -- a refused revision leaves the older one alone
  order by d.service_schema;

  return query
  with enqueued as (
    insert into osp_metadata.worker_registry as r (
      id, service_schema, manifest_path, revision, source, requested_by, service_id, spec, spec_hash, manifest, manifest_sha256,
      deployment_status, stop_requested_at, error_code, error_message, logs
    )
    select
      d.deployment_id, d.service_schema, 'manifests/' || d.service_schema || '.json', d.revision, d.source, d.requested_by,
      (d.spec ->> 'id')::uuid, d.spec, d.spec_hash, d.manifest, d.manifest_sha256,
      case when d.error_code is null then 'pending' else 'failed' end,
      case when d.wanted = 'stop' and d.error_code is null then clock_timestamp() end,
      d.error_code, d.error_message,
      osp_metadata.append_log(null, coalesce(d.error_message, pg_catalog.format('revision %s enqueued (%s)', d.revision, d.source)))
    from osp_metadata.as_deployments(deployments) as d
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
comment on function osp_metadata.enqueue_deployments is 'Acknowledges taken intents: one pending (or refused: failed) row of worker_registry each. Returns only what was accepted: not what is being edited, was taken by another or has a number that the registry knows already.';

create or replace function osp_metadata.as_deployments(deployments jsonb)
returns table (
  service_schema text, revision integer, wanted text, source text, requested_by text, deployment_id uuid, lease_token uuid,
  spec jsonb, spec_hash text, manifest jsonb, manifest_sha256 text, error_code text, error_message text
)
language sql
immutable
set search_path = ''
as $$
  select d.*
  from pg_catalog.jsonb_to_recordset(deployments) as d (
    service_schema text, revision integer, wanted text, source text, requested_by text, deployment_id uuid, lease_token uuid,
    spec jsonb, spec_hash text, manifest jsonb, manifest_sha256 text, error_code text, error_message text
  );
$$;
comment on function osp_metadata.as_deployments is 'The argument of enqueue_deployments as rows.';

create or replace function osp_metadata.supersede(schema_name text, by_revision integer, wanted text)
returns void
language plpgsql
security invoker  -- called by enqueue_deployments alone, as the owner
set search_path = ''
as $$
begin
  -- First a lock, then the decision: what a claim or a settlement under way leaves behind is seen by the statements below,
  -- each of which has a newer snapshot.
  perform from osp_metadata.worker_registry as r
  where r.service_schema = schema_name and r.deployment_status in ('pending', 'deploying')
  order by r.revision
  for update;

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
comment on function osp_metadata.supersede is 'Ends what an older revision still waits for or works on; the one that runs goes on until the newer is there.';
