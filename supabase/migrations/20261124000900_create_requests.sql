-- Purpose: requests that are more than an insert: ask again for a deployment, and write a service and learn its deployment.

set lock_timeout = '5s'; -- never a queue of writers behind a migration that waits

create or replace function osp.redeploy(schema text)
returns table (revision integer, deployment_id uuid)
language plpgsql
volatile
security definer      -- who may ask holds no rights on the intents
set search_path = ''
as $$
#variable_conflict use_column
declare
  asked_for text := redeploy.schema;
begin
  perform from osp.services as s where s.service_schema = asked_for and s.enabled for share; -- not beside a disable that is under way
  if not found then
    raise exception using
      errcode = 'no_data_found',
      message = pg_catalog.format('Cannot redeploy service "%s": %s', asked_for,
        case when exists (select from osp.services as s where s.service_schema = asked_for) then 'it is disabled' else 'osp.services has no such row' end),
      hint = case when exists (select from osp.services as s where s.service_schema = asked_for)
        then pg_catalog.format('update osp.services set enabled = true where service_schema = %L', asked_for)
        else 'See which there are: select service_schema from osp.services order by 1' end;
  end if;
  perform osp_metadata.record_intents(array[asked_for], array['run'], array['redeploy']);
  return query
  select i.revision, i.deployment_id from osp_metadata.service_intents as i where i.service_schema = asked_for;
end;
$$;
comment on function osp.redeploy is 'Makes a new revision of an unchanged service. Returns its number and the id that its row of worker_registry gets.';

create or replace function osp.deploy_service(service_schema text, service_name text, workflows jsonb, options jsonb default null)
returns table (revision integer, deployment_id uuid)
language plpgsql
volatile
security definer      -- reads the intent that the triggers wrote in this transaction
set search_path = ''
as $$
#variable_conflict use_column
begin
  insert into osp.services as s (service_schema, service_name, workflows, options)
  values (
    deploy_service.service_schema, deploy_service.service_name, deploy_service.workflows,
    coalesce(deploy_service.options, '{}')
  )
  on conflict (service_schema) do update set
    service_name = excluded.service_name,
    workflows = excluded.workflows,
    options = coalesce(deploy_service.options, s.options),
    enabled = true
  -- The same call twice is one deployment: a row that does not change fires nothing.
  where
    (s.service_name, s.workflows, s.options, s.enabled)
    is distinct from (excluded.service_name, excluded.workflows, coalesce(deploy_service.options, s.options), true);
  -- A row that no trigger saw (restored) may stand there as asked for, and yet nobody was asked to run it.
  if not exists (
    select from osp_metadata.service_intents as i where i.service_schema = deploy_service.service_schema and i.wanted = 'run'
  ) then
    perform osp_metadata.record_intents(array[deploy_service.service_schema], array['run'], array['reconcile']);
  end if;
  return query
  select i.revision, i.deployment_id
  from osp_metadata.service_intents as i
  where i.service_schema = deploy_service.service_schema;
end;
$$;
comment on function osp.deploy_service is 'Writes a service (insert, or update of what differs, enabled) and returns its newest revision with its deployment id. Options left out are kept.';
