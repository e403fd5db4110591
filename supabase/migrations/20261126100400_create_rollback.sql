-- Purpose: bring an earlier revision of a service back, as one more revision. osp.services stays the truth: its spec is
-- written into it, and everything else follows as after any other change.

set lock_timeout = '5s'; -- never a queue of writers behind a migration that waits

create or replace function osp_metadata.list_rollback_targets(schema_name text, most integer default 20)
returns text
language sql
stable
security invoker  -- called by osp.rollback alone, as the owner
set search_path = ''
as $$
  -- What became a manifest could run: only that can be brought back.
  select coalesce(
    pg_catalog.string_agg(target.revision::text, ', ' order by target.revision desc)
    || case when pg_catalog.count(*) = most then pg_catalog.format(
      '; all of them: select revision, deployed_at, spec from osp_metadata.worker_registry where service_schema = %L '
      || 'and manifest is not null order by revision desc', schema_name
    ) else '' end,
    'none. Write its row in osp.services instead'
  )
  from (
    select r.revision
    from osp_metadata.worker_registry as r
    where r.service_schema = schema_name and r.manifest is not null and r.spec is not null
    order by r.revision desc
    limit most
  ) as target;
$$;
comment on function osp_metadata.list_rollback_targets is 'Revisions that osp.rollback can bring back, newest first, for its error messages.';

create or replace function osp_metadata.is_known_service(schema_name text)
returns boolean
language sql
stable
security invoker  -- called by osp.rollback alone, as the owner
set search_path = ''
as $$
  select
    exists (select from osp_metadata.service_intents as i where i.service_schema = schema_name)
    or exists (select from osp_metadata.worker_registry as r where r.service_schema = schema_name);
$$;
comment on function osp_metadata.is_known_service is 'Whether anything was ever requested of that service.';

create or replace function osp_metadata.explain_rollback_refusal(schema_name text, to_revision integer)
returns text
language sql
stable
security invoker  -- called by osp.rollback alone, as the owner
set search_path = ''
as $$
  select case
    when target.stop_requested_at is not null and target.manifest is null then pg_catalog.format('it wanted a stop (%s)', target.source)
    when target.manifest is null and target.error_code is not null
      then pg_catalog.format('it was refused (%s) and never became a manifest', target.error_code)
    when target.id is not null then 'its spec is not known'
    when not osp_metadata.is_known_service(schema_name) then 'there never was such a service'
    when to_revision > i.revision or to_revision < 1 then pg_catalog.format('its newest revision is %s', i.revision)
    when to_revision > i.enqueued_revision then 'it was not enqueued yet'
    else 'osp_metadata.worker_registry does not have it: a newer one took its place before it was enqueued, or it was pruned'
  end
  from (select) as always
  left join osp_metadata.service_intents as i on i.service_schema = schema_name
  left join osp_metadata.worker_registry as target on target.service_schema = schema_name and target.revision = to_revision;
$$;
comment on function osp_metadata.explain_rollback_refusal is 'Why osp.rollback cannot bring that revision back.';

create or replace function osp.rollback(schema text, to_revision integer)
returns table (revision integer, deployment_id uuid)
language plpgsql
volatile
security definer      -- who may ask holds no rights on the registry and the intents
set search_path = ''
as $$
#variable_conflict use_column
declare
  asked_for text := rollback.schema;
  target osp_metadata.worker_registry;
  has_recorded boolean;
begin
  select r.* into target
  from osp_metadata.worker_registry as r
  where r.service_schema = asked_for and r.revision = rollback.to_revision
    and r.manifest is not null and r.spec is not null;
  if not found then
    raise exception using
      errcode = 'no_data_found',
      message = pg_catalog.format('Cannot roll service %s back to revision %s: %s',
        coalesce('"' || pg_catalog.left(asked_for, 80) || '"', 'null'), coalesce(to_revision::text, 'null'),
        case
          when asked_for is null or to_revision is null then 'both must be given'
          else osp_metadata.explain_rollback_refusal(asked_for, to_revision)
        end),
      hint = case
        when osp_metadata.is_known_service(asked_for)
          then 'Revisions that it can be rolled back to: ' || osp_metadata.list_rollback_targets(asked_for)
        else 'See which services there are: select service_schema, wanted_revision from osp_metadata.worker_status order by 1'
      end;
  end if;

  begin
    -- Comes back where it was deleted. Where it stands this only locks it, and after that nobody else changes it.
    insert into osp.services as s (service_schema, service_name, workflows, options)
    values (asked_for, target.spec ->> 'service_name', target.spec -> 'workflows', target.spec -> 'options')
    on conflict (service_schema) do update set enabled = true where false;
    has_recorded := found;
    if not has_recorded then
      update osp.services as s
      set service_name = target.spec ->> 'service_name', workflows = target.spec -> 'workflows', options = target.spec -> 'options', enabled = true
      where
        s.service_schema = asked_for
        and (s.service_name, s.workflows, s.options, s.enabled)
        is distinct from (target.spec ->> 'service_name', target.spec -> 'workflows', target.spec -> 'options', true);
      has_recorded := found;
    end if;
  exception when check_violation then
    raise exception using
      errcode = 'check_violation',
      message = pg_catalog.format('Cannot roll service "%s" back to revision %s, which today''s checks of osp.services refuse: %s',
        asked_for, to_revision, sqlerrm),
      hint = 'Write what you want of it into the row instead, or choose another revision: '
        || osp_metadata.list_rollback_targets(asked_for);
  end;

  -- One revision, not two: where the row changed its trigger has made one already, by another name.
  if not has_recorded then
    perform osp_metadata.record_intents(array[asked_for], array['run'], array['rollback']);
  end if;
  return query
  update osp_metadata.service_intents as i
  set source = 'rollback', rolled_back_to = target.revision
  where i.service_schema = asked_for
  returning i.revision, i.deployment_id;
end;
$$;
comment on function osp.rollback is 'Makes a new revision with the spec of an earlier one, written back into osp.services: changed, enabled, or inserted again. Any revision that became a manifest and has its row of worker_registry. Returns the new number and the id that its row of worker_registry gets.';

revoke all on function
  osp.rollback, osp_metadata.list_rollback_targets, osp_metadata.is_known_service, osp_metadata.explain_rollback_refusal
from public, anon, authenticated;
grant execute on function osp.rollback to service_role, osp_writer;
