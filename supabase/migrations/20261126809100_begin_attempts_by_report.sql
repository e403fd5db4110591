-- Purpose: an attempt is written down by its first report, not by the claim before it: the report is what is waited for on the disk, and
-- what comes before all that changes the platform. A claim then writes one row instead of two, and a report no second time to what
-- the claim has just written. What a deployer claimed and never reported on is written down by whoever takes it over.

set lock_timeout = '5s'; -- never a queue of writers behind a migration that waits

alter table osp_metadata.worker_registry
add column if not exists claimed_at timestamptz,
add column if not exists attempt_id bigint;
comment on column osp_metadata.worker_registry.claimed_at is 'When a deployer last claimed it; null: none did, or one of before that was recorded.';
comment on column osp_metadata.worker_registry.attempt_id is 'Its newest attempt: deployment_attempts.id. Null: there is none yet, or what was claimed last has not begun.';
grant update (claimed_at, attempt_id) on osp_metadata.worker_registry to osp_deployer;

create or replace function osp_metadata.attempts_before(deployment uuid)
returns table (counted integer, abandoned integer, deferrals integer, rejected_deployment_ids text[])
language plpgsql
volatile  -- sees what the claim that asks has just ended
rows 1
set search_path = pg_catalog, pg_temp
set lock_timeout = '1s'  -- locks nothing, but somebody may have the table
as $$
begin
  return query
  select
    (count(*) filter (where a.outcome in ('deployed', 'stopped', 'superseded', 'retry', 'failed')))::integer,
    (count(*) filter (where a.outcome = 'abandoned' or a.outcome is null))::integer,
    (count(*) filter (where a.outcome = 'deferred' and a.others_since = 0))::integer,
    array_agg(a.rejected_deployment_id) filter (where a.rejected_deployment_id is not null)
  from (
    select
      o.outcome, o.rejected_deployment_id, count(*) filter (where o.outcome <> 'deferred') over (order by o.id desc) as others_since
    from osp_metadata.deployment_attempts as o
    where o.deployment_id = deployment
  ) as a;
end;
$$;
comment on function osp_metadata.attempts_before is 'What a deployment that was claimed before has behind it: attempts that count, that a deployer left, that were put off one after the other until now, and deployments on the platform that they found unfit.';

create or replace function osp_metadata.begin_attempt(deployment uuid, token uuid, first_step text)
returns bigint
language plpgsql
volatile
security definer      -- a deployer makes up neither the number nor the time of an attempt
set search_path = pg_catalog, pg_temp
set lock_timeout = '1s'  -- as long as a claim waits for anything
as $$
declare
  begun bigint;
begin
  -- Again in one statement, where its row was changed while it waited for it: Postgres then works out anew what it writes.
  select a.id into begun
  from osp_metadata.worker_registry as r
  inner join osp_metadata.deployment_attempts as a on a.deployment_id = r.id
  where
    r.id = deployment and r.lease_token = token and r.attempt_id is null
    and a.ended_at is null and a.deployer = r.lease_owner and a.started_at >= r.claimed_at;
  if found then
    return begun;
  end if;
  insert into osp_metadata.deployment_attempts (deployment_id, service_schema, revision, attempt, deployer, step, started_at)
  select
    r.id, r.service_schema, r.revision,
    -- Before its first claim there is nothing to count.
    case when r.started_at = r.claimed_at then 1 else 1 + (select b.counted from osp_metadata.attempts_before(r.id) as b) end,
    r.lease_owner, first_step,
    coalesce(r.claimed_at, clock_timestamp())
  from osp_metadata.worker_registry as r
  where r.id = deployment and r.lease_token = token and r.attempt_id is null
  returning id into begun;
  return begun;
end;
$$;
comment on function osp_metadata.begin_attempt is 'Writes down the attempt of the deployer that has the deployment, by the token of its lease, once. Called by the statement that then keeps the id in worker_registry.attempt_id.';

create or replace function osp_metadata.has_unwritten_attempt(deployment uuid)
returns boolean
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set lock_timeout = '1s'  -- locks nothing, but somebody may have the table
as $$
begin
  -- A deployer of before writes down no claim, and an attempt with it.
  return exists (
    select from osp_metadata.worker_registry as r
    where
      r.id = deployment and r.lease_token is not null and r.claimed_at is not null and r.attempt_id is null
      and not exists (
        select from osp_metadata.deployment_attempts as a
        where a.deployment_id = r.id and a.started_at >= r.claimed_at
      )
  );
end;
$$;
comment on function osp_metadata.has_unwritten_attempt is 'Whether a deployer has, or left, the deployment and has not reported on it.';

create or replace function osp_metadata.count_left_attempts(deployment uuid)
returns integer
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set lock_timeout = '1s'  -- locks nothing, but somebody may have the table
as $$
begin
  return osp_metadata.has_unwritten_attempt(deployment)::integer + (
    select count(*)::integer
    from osp_metadata.deployment_attempts as a
    where a.deployment_id = deployment and (a.outcome = 'abandoned' or a.ended_at is null)
  );
end;
$$;
comment on function osp_metadata.count_left_attempts is 'How many attempts at a deployment whose lease ran out a deployer left: those told so, what is open, and what was never written down.';

create or replace function osp_metadata.oldest_suspect(suspect_from integer)
returns uuid
language plpgsql
set search_path = pg_catalog, pg_temp
set lock_timeout = '1s'  -- waits for no row, but somebody may have the table
as $$
declare
  oldest uuid;
begin
  -- Apart, so that what is being deployed is read, and never all that ever was, in the order asked for below.
  with expired as materialized (
    select r.id
    from osp_metadata.worker_registry as r
    where r.deployment_status = 'deploying' and r.lease_expires_at <= clock_timestamp()
  ), suspects as materialized (
    select e.id
    from expired as e
    where
      -- What count_left_attempts() counts; not by that function, which many suspects would call each time one is met.
      osp_metadata.has_unwritten_attempt(e.id)::integer + (
        select count(*)
        from osp_metadata.deployment_attempts as a
        where a.deployment_id = e.id and (a.outcome = 'abandoned' or a.ended_at is null)
      ) >= suspect_from
  )
  select r.id into oldest
  from osp_metadata.worker_registry as r
  where
    r.id = any (array(select s.id from suspects as s))
    and r.deployment_status = 'deploying' and r.lease_expires_at <= clock_timestamp()  -- still, once it is locked
  order by r.created_at, r.id
  limit 1
  -- As the claim locks it: where somebody has the oldest, it is the turn of the next.
  for update of r skip locked;
  return oldest;
end;
$$;
comment on function osp_metadata.oldest_suspect is 'Of the deployments whose lease ran out and that so many deployers or more left: the oldest that nobody has locked, the only one of them that a claim may take; it is locked. Null: there is none.';

create or replace function osp_metadata.abandon_attempts(deployment uuid)
returns text
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set lock_timeout = '1s'  -- as long as a claim waits for anything
as $$
declare
  gone text;
begin
  if osp_metadata.has_unwritten_attempt(deployment) then
    perform osp_metadata.begin_attempt(r.id, r.lease_token, 'claimed') from osp_metadata.worker_registry as r where r.id = deployment;
  end if;
  with left_open as materialized (
    select o.id
    from osp_metadata.deployment_attempts as o
    where o.deployment_id = deployment and o.ended_at is null
    order by o.id
    for update skip locked  -- it would hold up every claim; open it counts as left all the same, until a later claim ends it
  )
  update osp_metadata.deployment_attempts as a
  set ended_at = clock_timestamp(), outcome = 'abandoned', error_message = 'Deployer ' || a.deployer || ' went away'
  where a.id = any (array(select o.id from left_open as o));
  -- By this transaction, and not by this call: a claim whose row was changed in between asks twice (see begin_attempt).
  select string_agg('deployer ' || a.deployer || ' went away', ', ' order by a.id) into gone
  from osp_metadata.deployment_attempts as a
  where a.deployment_id = deployment and a.outcome = 'abandoned' and a.ended_at >= transaction_timestamp();
  return gone;
end;
$$;
comment on function osp_metadata.abandon_attempts is 'Ends what is open of a deployment''s attempts as abandoned, and what was never written down; says which deployers went away, null: none. One that somebody has locked stays open for the next claim, or for the settlement, unless it is locked then as well. Called by the claim that takes it over, in its transaction.';

create or replace function osp_metadata.served_before(schema_name text, before_revision integer, platform_name text)
returns table (service_id text, has_served boolean)
language plpgsql
stable
rows 1
set search_path = pg_catalog, pg_temp
set lock_timeout = '1s'  -- locks nothing, but somebody may have the table
as $$
begin
  return query
  select
    coalesce((
      -- Of the last hundred revisions: one that is edited all day leaves thousands that nobody has deployed.
      select o.platform_service_id
      from (
        select n.revision, n.platform, n.platform_service_id from osp_metadata.worker_registry as n
        where n.service_schema = schema_name and n.revision < before_revision
        order by n.revision desc
        limit 100
      ) as o
      where o.platform = platform_name and o.platform_service_id is not null
      order by o.revision desc
      limit 1
    ), served.platform_service_id),
    served.id is not null
  from (select) as once
  left join lateral (
    -- By worker_registry_served_idx, which has this order: of one that is edited all day most revisions never served.
    select o.id, o.platform_service_id from osp_metadata.worker_registry as o
    where o.service_schema = schema_name and o.platform = platform_name and o.deployed_at is not null
    order by o.deployed_at desc
    limit 1
  ) as served on true;
end;
$$;
comment on function osp_metadata.served_before is 'Of a service''s revisions: the newest id that an older one has on a platform, null: none; and whether any ever served there.';

create or replace function osp_metadata.past_of(deployment uuid, schema_name text, before_revision integer, platform_name text)
returns table (
  counted integer, abandoned integer, deferrals integer, rejected_deployment_ids text[], service_id text, has_served boolean
)
language plpgsql
volatile  -- as attempts_before
rows 1
set search_path = pg_catalog, pg_temp
set lock_timeout = '1s'  -- locks nothing, but somebody may have the table
as $$
begin
  return query
  select b.counted, b.abandoned, b.deferrals, b.rejected_deployment_ids, s.service_id, s.has_served
  from osp_metadata.attempts_before(deployment) as b
  cross join osp_metadata.served_before(schema_name, before_revision, platform_name) as s;
end;
$$;
comment on function osp_metadata.past_of is 'What a deployment and its service have behind them: attempts_before and served_before in one, which a claim calls where there is any.';

-- Called by the deployer, as itself.
revoke all on function
  osp_metadata.begin_attempt, osp_metadata.has_unwritten_attempt, osp_metadata.count_left_attempts,
  osp_metadata.oldest_suspect, osp_metadata.abandon_attempts, osp_metadata.attempts_before, osp_metadata.served_before,
  osp_metadata.past_of
from public, anon, authenticated;
grant execute on function
  osp_metadata.begin_attempt, osp_metadata.has_unwritten_attempt, osp_metadata.count_left_attempts,
  osp_metadata.oldest_suspect, osp_metadata.abandon_attempts, osp_metadata.attempts_before, osp_metadata.served_before,
  osp_metadata.past_of
to osp_deployer;
