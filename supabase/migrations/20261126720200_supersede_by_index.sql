-- Purpose: superseding reads the few rows of its service that are alive, by an index of their own each, never all that wait.

set lock_timeout = '5s'; -- never a queue of writers behind a migration that waits

create or replace function osp_metadata.supersede(schema_name text, by_revision integer, wanted text)
returns void
language plpgsql
security invoker  -- called by enqueue_deployments alone, as the owner
set search_path = pg_catalog, pg_temp
as $$
begin
  -- First a lock, then the decision: what a claim or a settlement under way leaves behind is seen by the statements below,
  -- each of which has a newer snapshot. In the order of their revisions, as everybody does: what is deployed was there before
  -- what waits. One status a statement, because each has a unique index of its own by service.
  perform from osp_metadata.worker_registry as r
  where r.service_schema = schema_name and r.deployment_status = 'deploying'
  for update;
  perform from osp_metadata.worker_registry as r
  where r.service_schema = schema_name and r.deployment_status = 'pending'
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
