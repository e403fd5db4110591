-- Purpose: who may do what with the functions and tables of retention, and the timer that prunes where there is one.

set lock_timeout = '5s'; -- never a queue of writers behind a migration that waits

revoke all on osp_metadata.retention from public, anon, authenticated;
revoke all on function
  osp_metadata.refuse_retention, osp_metadata.find_prunable, osp_metadata.prune, osp_metadata.count_pruned_objects,
  osp_metadata.take_pruned_objects, osp_metadata.forget_pruned_objects
from public, anon, authenticated;

-- How long history is kept is the operator's decision, who owns the tables: whoever writes services must not erase their trace.
grant select on osp_metadata.retention to osp_writer, osp_analyst;
grant select on osp_metadata.pruned_objects to osp_analyst;

-- The deployer's timer, and the Edge Function.
grant execute on function osp_metadata.prune to osp_deployer;
grant execute on function osp_metadata.take_pruned_objects, osp_metadata.forget_pruned_objects to service_role;

do $$
declare
  policy record;
begin
  for policy in
    select *
    from (values
      ('retention', 'osp_writer'), ('retention', 'osp_analyst'), ('pruned_objects', 'osp_analyst')
    ) as p (table_name, role_name)
  loop
    execute pg_catalog.format('drop policy if exists %I on osp_metadata.%I', policy.role_name, policy.table_name);
    execute pg_catalog.format(
      'create policy %I on osp_metadata.%I for select to %I using (true)', policy.role_name, policy.table_name, policy.role_name
    );
  end loop;
end;
$$;

do $$
begin
  if exists (select from pg_catalog.pg_extension where extname = 'pg_cron') then
    perform cron.schedule('osp-reconcile', '* * * * *', 'select osp_metadata.ring() where osp_metadata.reconcile() + osp_metadata.prune() > 0');
  end if;
exception when others then
  raise notice 'pg_cron is there but cannot be used (%): the deployer prunes instead', sqlerrm;
end;
$$;
