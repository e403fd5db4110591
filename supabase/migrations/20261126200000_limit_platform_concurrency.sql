-- Purpose: how many deployments may be under way on one platform at once, over all deployers.

set lock_timeout = '5s'; -- never a queue of writers behind a migration that waits

alter table osp_metadata.platforms
add column if not exists concurrency_limit integer
constraint platforms_concurrency_limit_check check (concurrency_limit >= 1);
comment on column osp_metadata.platforms.concurrency_limit is 'Most deployments that all deployers together have under way there at once, set by SQL and heeded from the next claim on; null: no limit but each deployer''s own OSP_CONCURRENCY. To have none, pause the platform.';

create or replace function osp_metadata.free_slots(platform_name text)
returns integer
language plpgsql
volatile
security definer      -- locks the platform, whatever of it the deployer may write
set search_path = pg_catalog, pg_temp
as $$
declare
  most integer;
begin
  select p.concurrency_limit into most from osp_metadata.platforms as p where p.name = platform_name;
  if most is null then
    return null; -- the usual case costs no lock
  end if;
  -- Claims on a limited platform stand in line here, each until the one before it is committed.
  select p.concurrency_limit into most from osp_metadata.platforms as p where p.name = platform_name for no key update;
  -- A statement of its own, for its newer snapshot: it sees what that claim has taken. A lease that ran out holds no slot,
  -- else nobody could take over what a killed deployer left.
  return (
    select greatest(most - pg_catalog.count(*)::integer, 0)
    from osp_metadata.worker_registry as r
    where r.platform = platform_name and r.deployment_status = 'deploying' and r.lease_expires_at > pg_catalog.clock_timestamp()
  );
end;
$$;
comment on function osp_metadata.free_slots is 'How many more deployments may be begun on a platform under its concurrency_limit; null: any number. Called by a claim, and keeps other claims there waiting until that is committed.';

revoke all on function osp_metadata.free_slots from public, anon, authenticated;
grant execute on function osp_metadata.free_slots to osp_deployer;
