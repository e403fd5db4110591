-- Purpose: which code was pushed for which service. Only the Storage API may delete objects: what nobody uses any more is found
-- here, and removed by the Edge Function.

set lock_timeout = '5s'; -- never a queue of writers behind a migration that waits

create table if not exists osp_metadata.service_code (
  service_schema text not null,
  code text not null,
  bytes integer not null,
  pushed_at timestamptz not null default clock_timestamp(),
  pushed_by text not null,
  used_at timestamptz,
  lease_token uuid,
  lease_expires_at timestamptz,
  last_error text,
  last_error_at timestamptz,
  constraint service_code_pkey primary key (service_schema, code),
  constraint service_code_service_schema_check check (service_schema ~ '^[a-z][a-z0-9_]{0,62}$'),
  constraint service_code_code_check check (code ~ '^[0-9a-f]{64}$'),
  constraint service_code_bytes_check check (bytes > 0),
  constraint service_code_last_error_check check ((last_error is null) = (last_error_at is null))
);
comment on table osp_metadata.service_code is 'Code that was pushed for services (osp code push), a row for each archive in Storage. What no service and no deployment uses is removed after a while: retention.keep_unused_code_days.';
comment on column osp_metadata.service_code.service_schema is 'Service that it was pushed for; osp.services may not have it yet.';
comment on column osp_metadata.service_code.code is 'SHA-256 of the archive, as options.code names it. It lies in the bucket code as <service_schema>/<code>.tar.gz.';
comment on column osp_metadata.service_code.bytes is 'Size of the archive.';
comment on column osp_metadata.service_code.pushed_at is 'When it was pushed last: the same code may be pushed again.';
comment on column osp_metadata.service_code.pushed_by is 'Database role that pushed it last; service_role: through the Data API.';
comment on column osp_metadata.service_code.used_at is 'When a row of osp.services began to name it, or a manifest that names it was built, last; null: never.';
comment on column osp_metadata.service_code.lease_token is 'Who removes it now; null: nobody.';
comment on column osp_metadata.service_code.lease_expires_at is 'Until when; afterwards it can be taken again.';
comment on column osp_metadata.service_code.last_error is 'Why it could not be removed yet and what to do; null: nothing is known to be in the way.';
comment on column osp_metadata.service_code.last_error_at is 'When that was met last; null: never. For a minute after it nothing is tried.';

-- Which deployments use a piece of code: of the few that have any. No row has some yet, so it is made by one look at each; deployers
-- wait for that a moment.
-- squawk-ignore require-concurrent-index-creation
create index if not exists worker_registry_code_idx on osp_metadata.worker_registry (service_schema, (manifest #>> '{options,code}'))
where manifest #>> '{options,code}' is not null;

alter table osp_metadata.service_code enable row level security;

revoke all on osp_metadata.service_code from public, anon, authenticated;
grant select on osp_metadata.service_code to service_role, osp_writer, osp_analyst;

do $$
declare
  reader text;
begin
  foreach reader in array array['service_role', 'osp_writer', 'osp_analyst'] loop
    execute pg_catalog.format('drop policy if exists %I on osp_metadata.service_code', reader);
    execute pg_catalog.format('create policy %I on osp_metadata.service_code for select to %I using (true)', reader, reader);
  end loop;
end;
$$;
