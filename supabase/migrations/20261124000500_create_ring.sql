-- Purpose: the doorbell. It says "there is work", never which, and may fail without a trace: reconcile finds what waits.

set lock_timeout = '5s'; -- never a queue of writers behind a migration that waits

create or replace function osp_metadata.ring()
returns void
language plpgsql
security definer      -- writers of osp.services read neither the Vault nor the tables of pg_net
set search_path = ''
set lock_timeout = '250ms'  -- the writer's statement never waits longer for a locked queue
as $$
declare
  functions_url text;
  webhook_secret text;
  this_transaction text := pg_catalog.pg_current_xact_id()::text;
begin
  -- One ring a transaction: each costs a request, and pg_net makes sessions that ring often slower (its commit callbacks stay).
  if pg_catalog.current_setting('osp_metadata.rung_in', true) = this_transaction then
    return;
  end if;
  if pg_catalog.to_regprocedure('net.http_post(text,jsonb,jsonb,jsonb,integer)') is null then
    return; -- a Postgres without pg_net: the deployer rings
  end if;
  if pg_catalog.to_regclass('vault.decrypted_secrets') is null then
    raise warning 'Cannot ring the Edge Function: there is no Vault to read its URL from. The deployer rings it within seconds.';
    return;
  end if;
  select
    max(decrypted_secret) filter (where name = 'osp_functions_url'),
    max(decrypted_secret) filter (where name = 'osp_webhook_secret')
  into functions_url, webhook_secret
  from vault.decrypted_secrets
  where name in ('osp_functions_url', 'osp_webhook_secret');
  if functions_url is null or webhook_secret is null then
    raise warning 'Cannot ring the Edge Function: the Vault lacks %. The deployer rings it within seconds.',
      pg_catalog.concat_ws(' and ', case when functions_url is null then 'osp_functions_url' end, case when webhook_secret is null then 'osp_webhook_secret' end)
      using hint = 'select vault.create_secret(''<value>'', ''osp_functions_url''); likewise osp_webhook_secret';
    return;
  end if;
  perform net.http_post(
    url := pg_catalog.rtrim(functions_url, '/') || '/queue-worker-build',
    body := '{}'::jsonb,
    headers := pg_catalog.jsonb_build_object('Content-Type', 'application/json', 'x-osp-webhook-secret', webhook_secret),
    timeout_milliseconds := 5000
  );
  perform pg_catalog.set_config('osp_metadata.rung_in', this_transaction, true);
exception when others then
  raise warning 'Cannot ring the Edge Function (%): the deployer rings it within seconds.', sqlerrm;
end;
$$;
comment on function osp_metadata.ring is 'Asks the Edge Function queue-worker-build to look for work. URL and secret come from the Vault. Never fails.';
