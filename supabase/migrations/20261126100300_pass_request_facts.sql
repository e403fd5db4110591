-- Purpose: what the Edge Function takes and enqueues carries when it was requested and which revision it brings back; and a
-- stop is enqueued even where the function cannot.

set lock_timeout = '5s'; -- never a queue of writers behind a migration that waits

-- Both return more columns than before. Who calls them by name only (the Data API) may be older than they are.
drop function if exists osp_metadata.take_intents(integer, integer);
drop function if exists osp_metadata.as_deployments(jsonb);

create function osp_metadata.take_intents(batch_size integer default 50, lease_seconds integer default 30)
returns table (
  service_schema text,
  revision integer,
  wanted text,
  source text,
  rolled_back_to integer,
  requested_at timestamptz,
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
  where
    i.revision > i.enqueued_revision and i.attempts < 5  -- others were exhausted and could not be written down as such
    and (i.lease_expires_at is null or i.lease_expires_at <= clock_timestamp())
  order by i.requested_at, i.service_schema
  limit 1
  for update skip locked;  -- one that cannot be taken now decides nothing

  with waiting as materialized (
    select i.service_schema
    from osp_metadata.service_intents as i
    where
      i.revision > i.enqueued_revision and i.attempts < 5
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
    i.service_schema, i.revision, i.wanted, i.source, i.rolled_back_to, i.requested_at, i.requested_by, i.deployment_id,
    i.lease_token,
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

create function osp_metadata.as_deployments(deployments jsonb)
returns table (
  service_schema text, revision integer, wanted text, source text, rolled_back_to integer, requested_at timestamptz,
  requested_by text, deployment_id uuid, lease_token uuid, spec jsonb, spec_hash text, manifest jsonb, manifest_sha256 text,
  error_code text, error_message text
)
language sql
immutable
set search_path = ''
as $$
  select d.*
  from pg_catalog.jsonb_to_recordset(deployments) as d (
    service_schema text, revision integer, wanted text, source text, rolled_back_to integer, requested_at timestamptz,
    requested_by text, deployment_id uuid, lease_token uuid, spec jsonb, spec_hash text, manifest jsonb, manifest_sha256 text,
    error_code text, error_message text
  );
$$;
comment on function osp_metadata.as_deployments is 'The argument of enqueue_deployments as rows.';

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

create or replace function osp_metadata.fail_exhausted_intents()
returns void
language plpgsql
security invoker  -- called by take_intents alone, as the owner
set search_path = ''
as $$
declare
  token uuid := pg_catalog.gen_random_uuid();
  exhausted text[];
  intent osp_metadata.service_intents;
  refusal jsonb;
begin
  with waiting as materialized (
    select i.service_schema
    from osp_metadata.service_intents as i
    where
      i.revision > i.enqueued_revision and i.attempts >= 5
      and (i.lease_expires_at is null or i.lease_expires_at <= clock_timestamp())
    order by i.service_schema
    for update skip locked
  ), leased as (
    update osp_metadata.service_intents as i
    set lease_token = token, lease_expires_at = clock_timestamp()
    from waiting
    where i.service_schema = waiting.service_schema
    returning i.service_schema
  )
  select pg_catalog.array_agg(leased.service_schema) into exhausted from leased;

  for intent in
    select i.* from osp_metadata.service_intents as i where i.service_schema = any (exhausted) order by i.service_schema
  loop
    refusal := pg_catalog.jsonb_build_object(
      'error_code', 'manifest_build_crashed',
      'error_message', pg_catalog.format(
        'The Edge Function queue-worker-build ended 5 times while it built the manifest of service "%s" revision %s%s. '
        || 'See its log, correct the row and then: select osp.redeploy(''%s'')',
        intent.service_schema, intent.revision, ', and told: ' || intent.last_error, intent.service_schema
      )
    );
    begin
      perform osp_metadata.enqueue_deployments(pg_catalog.jsonb_build_array(
        -- A stop needs no manifest, so it needs no function: what was deleted must not go on running for want of one.
        pg_catalog.to_jsonb(intent) || case when intent.wanted = 'run' then refusal else '{}' end
      ));
    exception when others then
      -- It waits on, is tried again at each taking, and must not end one.
      raise warning 'Cannot enqueue revision % of service "%": %', intent.revision, intent.service_schema, sqlerrm;
    end;
  end loop;
end;
$$;
comment on function osp_metadata.fail_exhausted_intents is 'An intent that ended the Edge Function, or was refused by enqueue_deployments, 5 times becomes a failed deployment; one that wants a stop is enqueued.';

revoke all on function osp_metadata.take_intents, osp_metadata.as_deployments from public, anon, authenticated;
grant execute on function osp_metadata.take_intents to service_role;

-- Stops that ended as failed before this: their workers still run.
do $$
begin
  perform osp_metadata.record_intents(array_agg(i.service_schema), array_agg(i.wanted), array_agg(i.source))
  from osp_metadata.service_intents as i
  inner join osp_metadata.worker_registry as r on r.service_schema = i.service_schema and r.revision = i.revision
  where i.wanted = 'stop' and i.revision = i.enqueued_revision and r.deployment_status = 'failed';
end;
$$;
