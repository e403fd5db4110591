-- Purpose: comparing a platform with the registry looks the deployments up that the platform names, by their ids, not all that
-- their services ever had.

set lock_timeout = '5s'; -- never a queue of writers behind a migration that waits

create or replace function osp_metadata.find_leftover_workers(listed jsonb)
returns table (deployment_id text, service_schema text, revision integer)
language sql
stable
security invoker  -- called by reconcile_platform alone, as the owner
set search_path = pg_catalog, pg_temp
as $$
  -- A row that ended never reopens, so nothing may run for it: what a deployer began that had lost its lease. While the
  -- service is under way it may be what serves until the newer one is ready.
  select r.id::text, r.service_schema, r.revision
  from osp_metadata.as_listed_services(listed) as l
  inner join osp_metadata.worker_registry as r
    -- As the id that it is, which the primary key is searched by; what is none names no deployment.
    on r.id = case
      when l.deployment_id ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' then l.deployment_id::uuid
    end
    and r.service_schema = l.service_schema
  where r.deployment_status in ('stopped', 'failed') and not osp_metadata.is_under_way(r.service_schema);
$$;
