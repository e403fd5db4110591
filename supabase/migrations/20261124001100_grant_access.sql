-- Purpose: who may do what. Everything is closed first; each role gets the verbs it needs and no more.

set lock_timeout = '5s'; -- never a queue of writers behind a migration that waits

revoke all on schema osp, osp_metadata from public;
revoke all on all tables in schema osp, osp_metadata from public, anon, authenticated;
revoke all on all functions in schema osp, osp_metadata from public, anon, authenticated;

grant usage on schema osp to service_role, osp_writer, osp_analyst;
grant usage on schema osp_metadata to service_role, osp_writer, osp_deployer, osp_analyst;

-- OSP, by SQL or through the Data API. The checks and BEFORE triggers of the table run as the writer.
grant select, insert, update, delete on osp.services to service_role, osp_writer;
grant truncate on osp.services to osp_writer;
grant execute on function
  osp.is_valid_service, osp.check_workflows, osp.check_name, osp.check_names, osp.check_options, osp.is_reserved_name, osp.refuse_service,
  osp.redeploy, osp.deploy_service
to service_role, osp_writer;
grant select on
  osp_metadata.service_intents, osp_metadata.worker_registry, osp_metadata.deployment_attempts,
  osp_metadata.worker_status, osp_metadata.deployment_history
to service_role, osp_writer;

-- The Edge Function.
grant execute on function
  osp_metadata.take_intents, osp_metadata.enqueue_deployments, osp_metadata.release_intents, osp_metadata.count_waiting_intents
to service_role;

-- The deployer.
grant select, update on osp_metadata.worker_registry to osp_deployer;
grant select, insert, update on osp_metadata.deployment_attempts to osp_deployer;
grant select, update on osp_metadata.platforms to osp_deployer;
grant select on osp_metadata.service_intents to osp_deployer;
grant execute on function osp_metadata.reconcile, osp_metadata.count_waiting_intents, osp_metadata.append_log to osp_deployer;

-- Analysts.
grant select on osp.services to osp_analyst;
grant select on all tables in schema osp_metadata to osp_analyst;

-- Row level security names the same roles once more: a grant given by mistake opens no row.
do $$
declare
  policy record;
begin
  for policy in
    select *
    from (values
      ('osp', 'services', 'service_role', 'all'), ('osp', 'services', 'osp_writer', 'all'), ('osp', 'services', 'osp_analyst', 'select'),
      ('osp_metadata', 'service_intents', 'service_role', 'select'), ('osp_metadata', 'service_intents', 'osp_writer', 'select'),
      ('osp_metadata', 'service_intents', 'osp_deployer', 'select'), ('osp_metadata', 'service_intents', 'osp_analyst', 'select'),
      ('osp_metadata', 'worker_registry', 'service_role', 'select'), ('osp_metadata', 'worker_registry', 'osp_writer', 'select'),
      ('osp_metadata', 'worker_registry', 'osp_deployer', 'all'), ('osp_metadata', 'worker_registry', 'osp_analyst', 'select'),
      ('osp_metadata', 'deployment_attempts', 'service_role', 'select'), ('osp_metadata', 'deployment_attempts', 'osp_writer', 'select'),
      ('osp_metadata', 'deployment_attempts', 'osp_deployer', 'all'), ('osp_metadata', 'deployment_attempts', 'osp_analyst', 'select'),
      ('osp_metadata', 'platforms', 'osp_deployer', 'all'), ('osp_metadata', 'platforms', 'osp_analyst', 'select')
    ) as p (schema_name, table_name, role_name, verb)
  loop
    execute pg_catalog.format('drop policy if exists %I on %I.%I', policy.role_name, policy.schema_name, policy.table_name);
    execute pg_catalog.format(
      'create policy %I on %I.%I for %s to %I using (true)%s',
      policy.role_name, policy.schema_name, policy.table_name, policy.verb, policy.role_name,
      case when policy.verb = 'all' then ' with check (true)' else '' end
    );
  end loop;
end;
$$;
