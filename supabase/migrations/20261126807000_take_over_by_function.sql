-- Purpose: what a claim does about rows that a deployer left is run for those alone. As parts of the statement that claims, it
-- was set up by each claim, which mostly meets none: a tenth of what a claim takes.

set lock_timeout = '5s'; -- never a queue of writers behind a migration that waits

create or replace function osp_metadata.count_left_attempts(deployment uuid)
returns integer
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set lock_timeout = '1s'  -- locks nothing, but somebody may have the table
as $$
begin
  return (
    select count(*)::integer
    from osp_metadata.deployment_attempts as a
    where a.deployment_id = deployment and (a.outcome = 'abandoned' or a.ended_at is null)
  );
end;
$$;
comment on function osp_metadata.count_left_attempts is 'How many attempts at a deployment whose lease ran out a deployer left: those told so, and what is open.';

create or replace function osp_metadata.oldest_suspect(suspect_from integer)
returns uuid
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set lock_timeout = '1s'  -- locks nothing, but somebody may have the table
as $$
begin
  return (
    -- Apart, so that what is being deployed is read, and never all that ever was, in the order asked for below.
    with expired as materialized (
      select r.id, r.created_at
      from osp_metadata.worker_registry as r
      where r.deployment_status = 'deploying' and r.lease_expires_at <= clock_timestamp()
    )
    select e.id
    from expired as e
    where
      -- What count_left_attempts() counts; not by that function, which many suspects would call each time one is met.
      (
        select count(*)
        from osp_metadata.deployment_attempts as a
        where a.deployment_id = e.id and (a.outcome = 'abandoned' or a.ended_at is null)
      ) >= suspect_from
    order by e.created_at, e.id
    limit 1
  );
end;
$$;
comment on function osp_metadata.oldest_suspect is 'Of the deployments whose lease ran out and that so many deployers or more left: the oldest, the only one of them that a claim may take. Null: there is none.';

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
  with left_open as materialized (
    select o.id
    from osp_metadata.deployment_attempts as o
    where o.deployment_id = deployment and o.ended_at is null
    order by o.id
    for update skip locked  -- it would hold up every claim; open it counts as left all the same, until a later claim ends it
  ), ended as (
    update osp_metadata.deployment_attempts as a
    set ended_at = clock_timestamp(), outcome = 'abandoned', error_message = 'Deployer ' || a.deployer || ' went away'
    where a.id = any (array(select o.id from left_open as o))
    returning a.id, a.deployer
  )
  select string_agg('deployer ' || e.deployer || ' went away', ', ' order by e.id) into gone from ended as e;
  return gone;
end;
$$;
comment on function osp_metadata.abandon_attempts is 'Ends what is open of a deployment''s attempts as abandoned; says which deployers went away, null: none. One that somebody has locked stays open for the next claim. Called by the claim that takes it over, in its transaction.';

-- Called by the deployer's claim, as itself.
revoke all on function osp_metadata.count_left_attempts, osp_metadata.oldest_suspect, osp_metadata.abandon_attempts
from public, anon, authenticated;
grant execute on function osp_metadata.count_left_attempts, osp_metadata.oldest_suspect, osp_metadata.abandon_attempts to osp_deployer;
