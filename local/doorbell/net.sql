-- Purpose: a stand-in for the extension pg_net 0.20.4 on a Postgres that does not offer it: the same names, tables,
-- grants, errors and losses. local/doorbell.ts is its worker. Part of the local stack, never a migration.

do $$
begin
  if exists (select from pg_catalog.pg_available_extensions where name = 'pg_net') then
    raise exception 'This Postgres offers the real pg_net, whose worker would take the stand-in''s queue'
      using hint = 'create extension pg_net; the stand-in is for a Postgres without it.';
  end if;
end;
$$;

create schema if not exists net;
comment on schema net is 'Stand-in for pg_net: queues HTTP requests for local/doorbell.ts.';

do $$
begin
  if pg_catalog.to_regtype('net.http_method') is null then
    create domain net.http_method as text check (value ilike 'get' or value ilike 'post' or value ilike 'delete');
  end if;
  if pg_catalog.to_regtype('net.request_status') is null then
    create type net.request_status as enum ('PENDING', 'SUCCESS', 'ERROR');
  end if;
  if pg_catalog.to_regtype('net.http_response') is null then
    create type net.http_response as (status_code integer, headers jsonb, body text);
  end if;
  if pg_catalog.to_regtype('net.http_response_result') is null then
    create type net.http_response_result as (status net.request_status, message text, response net.http_response);
  end if;
end;
$$;

-- Unlogged and without keys, as the real ones: a crash of Postgres empties both, and ids begin at 1 again.
create unlogged table if not exists net.http_request_queue (
  id bigserial,
  method net.http_method not null,
  url text not null,
  headers jsonb,
  body bytea,
  timeout_milliseconds integer not null
);
create unlogged table if not exists net._http_response (
  id bigint,
  status_code integer,
  content_type text,
  headers jsonb,
  content text,
  timed_out boolean,
  error_msg text,
  created timestamptz not null default now()
);
create index if not exists _http_response_created_idx on net._http_response (created);

-- NOTIFY is delivered at commit, once a transaction, and never after a rollback: the rules of pg_net's commit callback.
create or replace function net.wake()
returns void language sql
as $$
  select pg_catalog.pg_notify('pg_net_wake', '');
$$;

create or replace function net.worker_restart()
returns boolean language sql
as $$
  select true from pg_catalog.pg_notify('pg_net_restart', '');
$$;

-- The real one looks at backend_type, which a client cannot choose.
create or replace function net.check_worker_is_up()
returns void language plpgsql
as $$
begin
  if not exists (select from pg_catalog.pg_stat_activity where application_name like 'pg_net%') then
    raise exception 'the pg_net background worker is not up'
      using hint = 'Start local/doorbell.ts; what is queued waits for it.';
  end if;
end;
$$;

create or replace function net.wait_until_running()
returns void language plpgsql
as $$
begin
  while not exists (select from pg_catalog.pg_stat_activity where application_name like 'pg_net%') loop
    perform pg_catalog.pg_sleep(0.05);
    perform pg_catalog.pg_stat_clear_snapshot();
  end loop;
end;
$$;

-- Every byte but the unreserved ones of RFC 3986.
create or replace function net._urlencode_string(string varchar)
returns text language sql immutable strict
as $$
  select coalesce(pg_catalog.string_agg(
    case
      when pg_catalog.chr(byte) ~ '[A-Za-z0-9._~-]' and byte < 128 then pg_catalog.chr(byte)
      else '%' || pg_catalog.upper(pg_catalog.lpad(pg_catalog.to_hex(byte), 2, '0'))
    end, '' order by position
  ), '')
  from (
    select position, pg_catalog.get_byte(pg_catalog.convert_to(string, 'UTF8'), position) as byte
    from pg_catalog.generate_series(0, pg_catalog.octet_length(pg_catalog.convert_to(string, 'UTF8')) - 1) as position
  ) as bytes;
$$;

create or replace function net._encode_url_with_params_array(url text, params_array text[])
returns text language plpgsql immutable strict
as $$
begin
  if url !~* '^[a-z][a-z0-9+.-]*://\S+$' then
    raise exception 'invalid URL "%"', url using hint = 'An absolute one, such as https://example.com/path.';
  end if;
  if pg_catalog.cardinality(params_array) = 0 then
    return url;
  end if;
  return url || case when pg_catalog.strpos(url, '?') > 0 then '&' else '?' end
    || pg_catalog.array_to_string(params_array, '&');
end;
$$;

-- What the three below share, which pg_net has not.
create or replace function net._enqueue(
  method text, url text, params jsonb, headers jsonb, body bytea, timeout_milliseconds integer
)
returns bigint language plpgsql
as $$
declare
  request_id bigint;
  encoded text[] := array(
    select net._urlencode_string(p.key) || '=' || net._urlencode_string(p.value)
    from pg_catalog.jsonb_each_text(coalesce(params, '{}')) as p
  );
begin
  -- A null URL goes on, to fail as the null that it is.
  insert into net.http_request_queue (method, url, headers, body, timeout_milliseconds)
  values (
    _enqueue.method, net._encode_url_with_params_array(_enqueue.url, encoded), _enqueue.headers, _enqueue.body,
    _enqueue.timeout_milliseconds
  )
  returning id into request_id;
  perform net.wake();
  return request_id;
end;
$$;

create or replace function net._require_json(headers jsonb)
returns jsonb language plpgsql immutable
as $$
declare
  content_type text := (
    select h.value from pg_catalog.jsonb_each_text(coalesce(headers, '{}')) as h
    where pg_catalog.lower(h.key) = 'content-type' limit 1
  );
begin
  if content_type <> 'application/json' then
    raise exception 'Content-Type header must be "application/json"';
  end if;
  -- Without headers there is none to add to: the worker then sends a form, as libcurl does.
  return case when content_type is null then headers || '{"Content-Type": "application/json"}'::jsonb else headers end;
end;
$$;

create or replace function net.http_post(
  url text,
  body jsonb default '{}'::jsonb,
  params jsonb default '{}'::jsonb,
  headers jsonb default '{"Content-Type": "application/json"}'::jsonb,
  timeout_milliseconds integer default 5000
)
returns bigint language sql
as $$
  select net._enqueue(
    'POST', url, params, net._require_json(headers), pg_catalog.convert_to(body::text, 'UTF8'), timeout_milliseconds
  );
$$;

create or replace function net.http_get(
  url text,
  params jsonb default '{}'::jsonb,
  headers jsonb default '{}'::jsonb,
  timeout_milliseconds integer default 5000
)
returns bigint language sql
as $$
  select net._enqueue('GET', url, params, headers, null, timeout_milliseconds);
$$;

create or replace function net.http_delete(
  url text,
  params jsonb default '{}'::jsonb,
  headers jsonb default '{}'::jsonb,
  timeout_milliseconds integer default 5000,
  body jsonb default null
)
returns bigint language sql
as $$
  select net._enqueue(
    'DELETE', url, params, case when body is null then headers else net._require_json(headers) end,
    pg_catalog.convert_to(body::text, 'UTF8'), timeout_milliseconds
  );
$$;

create or replace function net._http_collect_response(request_id bigint, async boolean default true)
returns net.http_response_result language plpgsql
as $$
declare
  answer net._http_response;
begin
  loop
    select * into answer from net._http_response as r where r.id = request_id;
    exit when found or async;
    perform pg_catalog.pg_sleep(0.05);
  end loop;
  if answer.id is null then
    return ('PENDING', 'request is pending processing', null)::net.http_response_result;
  end if;
  if answer.error_msg is not null then
    return ('ERROR', answer.error_msg, null)::net.http_response_result;
  end if;
  return ('SUCCESS', 'ok', (answer.status_code, answer.headers, answer.content)::net.http_response)::net.http_response_result;
end;
$$;

-- As installed: whoever runs SQL may queue, and may read what is queued. What goes into a request must bear that.
grant usage on schema net to public;
grant all on net.http_request_queue, net._http_response to public;
grant all on sequence net.http_request_queue_id_seq to public;
