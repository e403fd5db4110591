-- Purpose: a supervisor that hangs must not keep the workers of its platform from everybody. Its lock belongs to its
-- session, and the session of a paused process lives on: the kernel answers for it.

set lock_timeout = '5s'; -- never a queue of writers behind a migration that waits

alter table osp_metadata.platforms add column if not exists supervisor_lease_seconds double precision;
comment on column osp_metadata.platforms.supervisor_lease_seconds is 'After so many seconds without a word from its supervisor, another deployer of the same host takes over; null: none has supervised yet.';

create or replace function osp_metadata.record_supervisor(platform_name text, deployer text, lease_seconds double precision)
returns void
language sql
volatile
security definer      -- the deployer need not hold rights on each column
set search_path = pg_catalog, pg_temp
as $$
  update osp_metadata.platforms
  set supervisor = record_supervisor.deployer, supervised_at = clock_timestamp(), supervisor_lease_seconds = record_supervisor.lease_seconds
  where name = platform_name;
$$;
comment on function osp_metadata.record_supervisor is 'Writes down who has the supervision of a platform, for people and for those who stand by.';

create or replace function osp_metadata.end_silent_supervisor(platform_name text)
returns boolean
language plpgsql
volatile
security definer      -- ends the session of another login, and only that of the lock
set search_path = pg_catalog, pg_temp
as $$
declare
  silent_session integer;
begin
  -- By the server's own word, not by a heartbeat in a table: that works while the database is read-only as well.
  select holder.pid into silent_session
  from pg_catalog.pg_locks as l
  inner join pg_catalog.pg_stat_activity as holder on holder.pid = l.pid
  inner join osp_metadata.platforms as p on p.name = platform_name
  where
    l.locktype = 'advisory' and l.granted and l.objsubid = 2
    and l.database = (select d.oid from pg_catalog.pg_database as d where d.datname = pg_catalog.current_database())
    and l.classid = pg_catalog.hashtext('osp supervisor')::oid and l.objid = pg_catalog.hashtext(platform_name)::oid
    -- A second more: by then it has found out itself that its time is over, should it still live.
    and holder.state_change < pg_catalog.clock_timestamp() - pg_catalog.make_interval(secs => p.supervisor_lease_seconds + 1);
  return silent_session is not null and pg_catalog.pg_terminate_backend(silent_session);
end;
$$;
comment on function osp_metadata.end_silent_supervisor is 'Ends the session of a platform''s supervisor that has said nothing for supervisor_lease_seconds and one more, so that its lock is free. True: there was one.';

revoke all on function osp_metadata.record_supervisor, osp_metadata.end_silent_supervisor from public, anon, authenticated;
grant execute on function osp_metadata.record_supervisor, osp_metadata.end_silent_supervisor to osp_deployer;
