-- Purpose: a list of what can go from Storage. Only the Storage API may delete objects, so SQL lists them and the Edge Function
-- removes them.

set lock_timeout = '5s'; -- never a queue of writers behind a migration that waits

create table if not exists osp_metadata.pruned_objects (
  path text not null,
  service_schema text not null,
  revision integer,
  waits_since timestamptz not null default clock_timestamp(),
  lease_token uuid,
  lease_expires_at timestamptz,
  last_error text,
  last_error_at timestamptz,
  constraint pruned_objects_pkey primary key (path),
  constraint pruned_objects_last_error_check check ((last_error is null) = (last_error_at is null))
);
comment on table osp_metadata.pruned_objects is 'Objects of Storage that no deployment needs any more. The Edge Function removes each, then its row here.';
comment on column osp_metadata.pruned_objects.path is 'The object, in the bucket manifests.';
comment on column osp_metadata.pruned_objects.service_schema is 'Service that it belonged to.';
comment on column osp_metadata.pruned_objects.revision is 'Revision whose manifest it is; null: the mirror of the newest one.';
comment on column osp_metadata.pruned_objects.waits_since is 'When its deployment was pruned, or when its removal failed last: the oldest has its turn.';
comment on column osp_metadata.pruned_objects.lease_token is 'Who removes it now; null: nobody.';
comment on column osp_metadata.pruned_objects.lease_expires_at is 'Until when; afterwards it can be taken again.';
comment on column osp_metadata.pruned_objects.last_error is 'Why it could not be removed yet and what to do; null: nothing is known to be in the way.';
comment on column osp_metadata.pruned_objects.last_error_at is 'When that was met last; null: never. For a minute after it nothing is tried.';

create index if not exists pruned_objects_waits_since_idx on osp_metadata.pruned_objects (waits_since, path);
create index if not exists pruned_objects_last_error_at_idx on osp_metadata.pruned_objects (last_error_at)
where last_error_at is not null;
create index if not exists pruned_objects_service_schema_idx on osp_metadata.pruned_objects (service_schema)
where revision is null;

alter table osp_metadata.pruned_objects enable row level security;

create or replace function osp_metadata.manifest_object(schema_name text, revision integer, manifest_sha256 text)
returns text
language sql
immutable
set search_path = ''
as $$
  select pg_catalog.format('%s/%s-%s.json', schema_name, revision, manifest_sha256);
$$;
comment on function osp_metadata.manifest_object is 'Where the manifest of a revision lies, in the bucket manifests.';

revoke all on osp_metadata.pruned_objects from public, anon, authenticated;
revoke all on function osp_metadata.manifest_object from public, anon, authenticated;
