-- Purpose: how long ago each worker was last seen alive, kept up to date by the deployers in turns.

set lock_timeout = '5s'; -- never a queue of writers behind a migration that waits

alter table osp_metadata.platforms add column if not exists health_checked_at timestamptz;
comment on column osp_metadata.platforms.health_checked_at is 'When a deployer last took its turn to ask Temporal which workers live; null: never.';
comment on column osp_metadata.worker_registry.last_health_check is 'When its worker was last seen alive: seen polling at the deployment, by its heartbeats since; null: never yet.';

create or replace function osp_metadata.take_health_turn(platform_name text, every_seconds double precision)
returns boolean
language sql
volatile
security definer      -- the deployer need not hold rights on each column
set search_path = pg_catalog, pg_temp
as $$
  with taken as (
    update osp_metadata.platforms
    set health_checked_at = clock_timestamp()
    where
      name = platform_name
      and (
        health_checked_at is null
        or health_checked_at <= clock_timestamp() - pg_catalog.make_interval(secs => every_seconds)
      )
    returning name
  )
  select exists (select from taken);
$$;
comment on function osp_metadata.take_health_turn is 'Whether it is the caller''s turn to ask which workers of a platform live: of deployers that ask at once, one gets it.';

create or replace function osp_metadata.record_health(platform_name text, seen jsonb)
returns table (service_schema text, revision integer, seen_at timestamptz)
language plpgsql
volatile
security definer      -- the deployer need not hold rights on each column
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  checked_at constant timestamptz := clock_timestamp();
begin
  update osp_metadata.worker_registry as r
  set last_health_check = checked_at, worker_version = s.worker_version
  from (
    select distinct on (s.service_schema, s.revision) s.*
    from pg_catalog.jsonb_to_recordset(seen) as s (service_schema text, revision integer, worker_version text)
    order by s.service_schema, s.revision, s.worker_version desc
  ) as s
  where
    r.service_schema = s.service_schema and r.revision = s.revision
    and r.platform = platform_name and r.deployment_status = 'deployed';

  return query
  select r.service_schema, r.revision, r.last_health_check
  from osp_metadata.worker_registry as r
  where r.platform = platform_name and r.deployment_status = 'deployed' and r.last_health_check < checked_at - interval '2 minutes'
  order by r.last_health_check
  limit 100;
end;
$$;
comment on function osp_metadata.record_health is 'Writes down that workers live (a JSON array of service_schema, revision, worker_version). Returns deployments of the platform whose worker was not seen for two minutes, the longest first, at most 100.';

revoke all on function osp_metadata.take_health_turn, osp_metadata.record_health from public, anon, authenticated, service_role;
grant execute on function osp_metadata.take_health_turn, osp_metadata.record_health to osp_deployer;
