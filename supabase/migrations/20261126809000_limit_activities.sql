-- Purpose: one activity may have limits of its own: how many at once, how many a second. Temporal has such limits for a task queue,
-- so it gets one. Where a later revision drops the limits, what was scheduled before still waits there: that revision is told.

set lock_timeout = '5s'; -- never a queue of writers behind a migration that waits

create or replace function osp.option_rules()
returns jsonb
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
  select '{
    "options": {
      "activity_endpoint": {"is": "url"},
      "activity_timeout_seconds": {"is": "whole number of seconds", "from": 1, "to": 86400},
      "activity_max_attempts": {"is": "whole number", "from": 1, "to": 1000},
      "activity_retry": {"is": "retry"},
      "max_concurrent_activities": {"is": "whole number", "from": 1, "to": 1000},
      "max_activities_per_second": {"is": "number", "from": 0.01, "to": 100000},
      "max_task_queue_activities_per_second": {"is": "number", "from": 0.01, "to": 100000},
      "replicas": {"is": "whole number", "from": 1, "to": 50},
      "activities": {"is": "activities"},
      "replay_gate": {"is": "true or false"}
    },
    "activity": {
      "endpoint": {"is": "url"},
      "timeout_seconds": {"is": "whole number of seconds", "from": 1, "to": 86400},
      "max_attempts": {"is": "whole number", "from": 1, "to": 1000},
      "retry": {"is": "retry"},
      "max_concurrent": {"is": "whole number", "from": 1, "to": 1000},
      "max_per_second": {"is": "number", "from": 0.01, "to": 100000},
      "max_task_queue_per_second": {"is": "number", "from": 0.01, "to": 100000}
    },
    "retry": {
      "initial_interval_seconds": {"is": "number", "from": 0.001, "to": 86400},
      "backoff_coefficient": {"is": "number", "from": 1, "to": 100},
      "maximum_interval_seconds": {"is": "number", "from": 0.001, "to": 86400}
    }
  }'::jsonb;
$$;

create or replace function osp_metadata.limited_activities(manifest jsonb)
returns text[]
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
  -- Silent: a manifest that somebody has bent names none, and must not end the taking of others.
  select array_agg(distinct named.activity #>> '{}')
  from (
    select pg_catalog.jsonb_path_query(
      manifest,
      '$.options.activities.keyvalue() ? (
        exists (@.value.max_concurrent) || exists (@.value.max_per_second) || exists (@.value.max_task_queue_per_second)
      ).key',
      silent => true
    ) as activity
    union all
    select pg_catalog.jsonb_path_query(manifest, '$.limited_before[*] ? (@.type() == "string")', silent => true)
  ) as named;
$$;
comment on function osp_metadata.limited_activities is 'Activities that have limits of their own by a manifest, or had by earlier ones that it tells of; null: there are none.';

-- Its rows have one column more, which no function can get by being replaced. Whoever calls it just then is told that it is gone, and calls again.
drop function if exists osp_metadata.take_intents;
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
  spec_hash text,
  limited_before text[]
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
    osp_metadata.hash_spec(s.service_name, s.workflows, s.options),
    (
      select osp_metadata.limited_activities(r.manifest)
      from osp_metadata.worker_registry as r
      where r.service_schema = i.service_schema and r.manifest is not null
      order by r.revision desc
      limit 1
    )
  from osp_metadata.service_intents as i
  left join osp.services as s on s.service_schema = i.service_schema
  where i.service_schema = any (taken)
  order by i.service_schema;
end;
$$;
comment on function osp_metadata.take_intents is 'Leases up to batch_size waiting intents, oldest first, each with the service as it stands at that revision, and the activities that had limits of their own until then.';

revoke all on function osp_metadata.limited_activities, osp_metadata.take_intents from public, anon, authenticated;
grant execute on function osp_metadata.take_intents to service_role;
