-- Purpose: a taking reads the intents that it takes, not all that wait: a hundred thousand that were inserted at once are taken
-- in thousands of takings.

set lock_timeout = '5s'; -- never a queue of writers behind a migration that waits

create or replace function osp_metadata.fail_exhausted_intents()
returns void
language plpgsql
security invoker  -- called by take_intents alone, as the owner
set search_path = pg_catalog, pg_temp
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
    -- As an array they are few to the planner: by index, never all intents.
    where i.service_schema = any (array(select w.service_schema from waiting as w))
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

create or replace function osp_metadata.take_intents(batch_size integer default 50, lease_seconds integer default 30)
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
set search_path = pg_catalog, pg_temp
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
    -- As an array they are few to the planner, however large it thinks batch_size is: by index, never all intents.
    where i.service_schema = any (array(select w.service_schema from waiting as w))
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
