-- Purpose: of the workers of one deployment some may be left. Where the registry does not know it and its successor failed, they are told
-- as well: nothing else would show them.

set lock_timeout = '5s'; -- never a queue of writers behind a migration that waits

create or replace function osp_metadata.find_orphans(platform_name text, listed jsonb)
returns table (platform_service_id text, service_schema text, reason text)
language sql
stable
security invoker  -- called by reconcile_platform alone, as the owner
set search_path = pg_catalog, pg_temp
as $$
  select distinct on (l.id) l.id, l.service_schema, why.reason
  from osp_metadata.as_listed_services(listed) as l
  left join osp.services as s on s.service_schema = l.service_schema
  left join osp_metadata.service_intents as i on i.service_schema = l.service_schema
  left join osp_metadata.worker_registry as newest on newest.service_schema = i.service_schema and newest.revision = i.revision
  left join lateral (
    select r.revision, r.platform from osp_metadata.worker_registry as r
    where r.service_schema = l.service_schema and r.deployment_status = 'deployed' and r.platform <> platform_name
    order by r.revision desc
    limit 1
  ) as elsewhere on true
  cross join lateral (
    select case
      when s.id is null and i.service_schema is null then pg_catalog.format(
        'osp.services has no row "%s", and no delete of it was recorded. To keep it, insert the row; to end it: select osp.remove_orphan(''%s'')',
        l.service_schema, l.service_schema
      )
      when i.wanted = 'stop' and newest.deployment_status = 'failed' then pg_catalog.format(
        'Its stop (revision %s) failed: %s. Try again: select osp.remove_orphan(''%s'')', newest.revision, newest.error_message, l.service_schema
      )
      when l.is_running and elsewhere.revision is not null then pg_catalog.format(
        'It runs on platform %s by now (revision %s). End it on %s by hand', elsewhere.platform, elsewhere.revision, platform_name
      )
      -- Running or not: of several workers some may run, which is no deployment that serves as it should.
      when i.wanted = 'run' and newest.deployment_status = 'failed'
        and l.deployment_id is not null
        and not exists (
          select from osp_metadata.worker_registry as known
          where known.service_schema = l.service_schema and known.id::text = l.deployment_id
        ) then pg_catalog.format(
        'Workers of a deployment that the registry does not know are there, and revision %s, which should take their place, failed: %s. '
        || 'Correct the row in osp.services, or try again: select osp.redeploy(''%s'')',
        newest.revision, newest.error_message, l.service_schema
      )
    end as reason
  ) as why
  where why.reason is not null
  order by l.id, l.is_running desc;
$$;
comment on function osp_metadata.find_orphans is 'What a platform lists and nobody wants there, or the registry does not know, and why; nothing of it may be ended.';
