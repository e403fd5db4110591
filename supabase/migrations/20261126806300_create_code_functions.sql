-- Purpose: what a push calls: it writes down what it has stored, and names it in the service's row.

set lock_timeout = '5s'; -- never a queue of writers behind a migration that waits

create or replace function osp.record_code(service_schema text, code text, bytes integer)
returns boolean
language plpgsql
volatile
security definer      -- who may push holds no rights on the table
set search_path = pg_catalog, pg_temp
set lock_timeout = '3s'
as $$
#variable_conflict use_column
declare
  is_kept boolean;
begin
  insert into osp_metadata.service_code as c (service_schema, code, bytes, pushed_by)
  values (record_code.service_schema, record_code.code, record_code.bytes, osp_metadata.requesting_role())
  on conflict (service_schema, code) do update set
    -- One that is just being removed stays as it is: it is gone in a moment.
    pushed_at = case when c.lease_expires_at > clock_timestamp() then c.pushed_at else clock_timestamp() end,
    pushed_by = case when c.lease_expires_at > clock_timestamp() then c.pushed_by else excluded.pushed_by end,
    -- A lease that is over is nobody's any more: who held it does not forget what was pushed again.
    lease_token = case when c.lease_expires_at > clock_timestamp() then c.lease_token end,
    lease_expires_at = case when c.lease_expires_at > clock_timestamp() then c.lease_expires_at end
  returning c.lease_token is null into is_kept;
  return is_kept;
end;
$$;
comment on function osp.record_code is 'Writes down that an archive was stored for a service, from when on it is kept for retention.keep_unused_code_days at least. False: the same archive is just being removed, store it again in a moment.';

create or replace function osp.set_code(schema text, code text)
returns table (revision integer, deployment_id uuid)
language plpgsql
volatile
security definer      -- reads the intent that the triggers wrote in this transaction
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  perform from osp.services as s where s.service_schema = set_code.schema for update;
  if not found then
    raise exception using
      errcode = 'no_data_found',
      message = pg_catalog.format('Cannot set the code of service "%s": osp.services has no such row', osp.visible(pg_catalog.left(set_code.schema, 80))),
      hint = 'Insert its row, with the code in its options: insert into osp.services (service_schema, service_name, workflows, options) values (…)';
  end if;
  update osp.services as s
  set options = case
    when set_code.code is null then s.options - 'code'
    else s.options || pg_catalog.jsonb_build_object('code', set_code.code)
  end
  where s.service_schema = set_code.schema and s.options ->> 'code' is distinct from set_code.code;
  return query
  select i.revision, i.deployment_id from osp_metadata.service_intents as i where i.service_schema = set_code.schema;
end;
$$;
comment on function osp.set_code is 'Names a service''s code in its options, which is a new revision where it names another one; null: it has none of its own any more. Refused with 55006 where that code is just being removed. Returns the newest revision and the id that its row of worker_registry gets.';

revoke all on function osp.record_code, osp.set_code from public, anon, authenticated;
grant execute on function osp.record_code, osp.set_code to service_role, osp_writer;
