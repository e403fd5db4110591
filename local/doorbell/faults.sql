-- Purpose: switches that make the stand-in for pg_net fail as the real one does. For tests, which apply it themselves;
-- where it is not applied there are no faults.

create schema if not exists osp_local;

create table if not exists osp_local.net_faults (
  only_row boolean primary key default true check (only_row),
  deliver_twice boolean not null default false,
  refuse_until timestamptz,
  delay_ms integer not null default 0,
  hold_ms integer not null default 0
);
comment on table osp_local.net_faults is 'Faults of the stand-in for pg_net, read at each pass of its worker. One row.';
comment on column osp_local.net_faults.deliver_twice is 'Send every request twice; record one answer.';
comment on column osp_local.net_faults.refuse_until is 'Until then nobody is reached: requests are used up and lost. Null: never.';
comment on column osp_local.net_faults.delay_ms is 'Time between taking a batch and sending it, in milliseconds.';
comment on column osp_local.net_faults.hold_ms is 'Time by which every answer is late, in milliseconds; counts against the timeout.';
insert into osp_local.net_faults default values on conflict do nothing;

-- What a crash of Postgres leaves: no queue, no answers, ids from 1. What was in flight may have arrived all the same.
create or replace function osp_local.crash_net()
returns void language plpgsql
set search_path = ''
as $$
begin
  perform pg_catalog.pg_terminate_backend(pid, 5000)
  from pg_catalog.pg_stat_activity
  where application_name like 'pg_net%' and datname = pg_catalog.current_database();
  truncate net.http_request_queue, net._http_response restart identity;
end;
$$;
