-- Purpose: what a claim does about rows that a deployer left is run for those alone. As parts of the statement that claims, it
-- was set up by each claim, which mostly meets none: a tenth of what a claim takes.

set lock_timeout = '5s'; -- never a queue of writers behind a migration that waits

create or replace function osp_metadata.may_take_over(deployment uuid, suspect_from integer, takes_suspect boolean)
returns boolean
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  if osp_metadata.count_left_attempts(deployment) < suspect_from then
    return true;
  end if;
  -- The oldest suspect alone.
  return takes_suspect and deployment = (
    select r.id
    from osp_metadata.worker_registry as r
    where
      r.deployment_status = 'deploying' and r.lease_expires_at <= clock_timestamp()
      and osp_metadata.count_left_attempts(r.id) >= suspect_from
    order by r.created_at, r.id
    limit 1
  );
end;
$$;
comment on function osp_metadata.may_take_over is 'Whether a deployment whose lease ran out may be claimed: one that so many deployers died with is suspect, of which a claim takes the oldest alone, or none.';

create or replace function osp_metadata.count_left_attempts(deployment uuid)
returns integer
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
  return (
    select count(*)::integer
    from osp_metadata.deployment_attempts as a
    where a.deployment_id = deployment and (a.outcome = 'abandoned' or a.ended_at is null)
  );
end;
$$;
comment on function osp_metadata.count_left_attempts is 'How many attempts at a deployment whose lease ran out a deployer left: those told so, and the open one.';

create or replace function osp_metadata.abandon_attempts(deployment uuid)
returns text
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  gone text;
begin
  with ended as (
    update osp_metadata.deployment_attempts as a
    set ended_at = clock_timestamp(), outcome = 'abandoned', error_message = 'Deployer ' || a.deployer || ' went away'
    where a.deployment_id = deployment and a.ended_at is null
    returning a.id, a.deployer
  )
  select string_agg('deployer ' || e.deployer || ' went away', ', ' order by e.id) into gone from ended as e;
  return gone;
end;
$$;
comment on function osp_metadata.abandon_attempts is 'Ends what is open of a deployment''s attempts as abandoned; says which deployers went away, null: none. Called by the claim that takes it over, in its transaction.';

-- Called by the deployer's claim, as itself.
revoke all on function osp_metadata.may_take_over, osp_metadata.count_left_attempts, osp_metadata.abandon_attempts
from public, anon, authenticated;
grant execute on function osp_metadata.may_take_over, osp_metadata.count_left_attempts, osp_metadata.abandon_attempts to osp_deployer;
