-- Purpose: the private bucket that services' own code is kept in, one archive per push, written once. A Postgres without Storage
-- has none.

set lock_timeout = '5s'; -- never a queue of writers behind a migration that waits

do $$
begin
  if pg_catalog.to_regclass('storage.buckets') is not null then
    insert into storage.buckets (id, name, public, file_size_limit, allowed_mime_types)
    values ('code', 'code', false, 20971520, '{application/gzip}')
    on conflict (id) do update set
      public = false, file_size_limit = excluded.file_size_limit, allowed_mime_types = excluded.allowed_mime_types;
  end if;
end;
$$;
