-- Purpose: a deployer writes how a deployment goes, and nothing else: not what was asked for, and not what has ended.

set lock_timeout = '5s'; -- never a queue of writers behind a migration that waits

-- What a revision is made of (service_schema, revision, source, spec, manifest, created_at …) was written when it was enqueued.
revoke insert, update, delete on osp_metadata.worker_registry from osp_deployer;
grant update (
  deployment_status, deployed_at, logs, retry_count, last_health_check, worker_version, started_at, next_attempt_at, lease_owner,
  lease_token, lease_expires_at, stopped_at, error_code, error_message, platform, platform_service_id, platform_deployment_id
) on osp_metadata.worker_registry to osp_deployer;

revoke insert, update, delete on osp_metadata.deployment_attempts from osp_deployer;
grant insert (deployment_id, service_schema, revision, attempt, deployer) on osp_metadata.deployment_attempts to osp_deployer;
grant update (step, ended_at, outcome, error_class, error_code, error_message, exit_code, log_tail)
on osp_metadata.deployment_attempts to osp_deployer;

-- Not name and instance: the marker tells what on a platform is this database's.
revoke insert, update, delete on osp_metadata.platforms from osp_deployer;
grant update (
  paused_at, pause_reason, paused_by, probed_at, window_started_at, window_requests, window_quota, throttled_until, supervisor,
  supervised_at
) on osp_metadata.platforms to osp_deployer;

-- Rows: terminal ones never reopen, and an attempt that ended is history. Without a policy for a verb, no row is open to it.
do $$
declare
  policy record;
begin
  for policy in
    select *
    from (values
      ('worker_registry', 'select', 'using (true)'),
      ('worker_registry', 'update', 'using (deployment_status in (''pending'', ''deploying'', ''deployed'')) with check (true)'),
      ('deployment_attempts', 'select', 'using (true)'),
      ('deployment_attempts', 'insert', 'with check (ended_at is null)'),
      ('deployment_attempts', 'update', 'using (ended_at is null) with check (true)'),
      ('platforms', 'select', 'using (true)'),
      ('platforms', 'update', 'using (true) with check (true)')
    ) as p (table_name, verb, rule)
  loop
    execute pg_catalog.format('drop policy if exists osp_deployer on osp_metadata.%I', policy.table_name);
    execute pg_catalog.format('drop policy if exists %I on osp_metadata.%I', 'osp_deployer_' || policy.verb, policy.table_name);
    execute pg_catalog.format(
      'create policy %I on osp_metadata.%I for %s to osp_deployer %s',
      'osp_deployer_' || policy.verb, policy.table_name, policy.verb, policy.rule
    );
  end loop;
end;
$$;
