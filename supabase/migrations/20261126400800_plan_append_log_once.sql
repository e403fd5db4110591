-- Purpose: a line of a log costs microseconds. A function in SQL that cannot be inlined is planned anew in every statement that
-- calls it; in PL/pgSQL a session plans it once. Measured: 0.19 ms of the 0.70 ms that a claim took.

set lock_timeout = '5s'; -- never a queue of writers behind a migration that waits

create or replace function osp_metadata.append_log(logs text, line text)
returns text
language plpgsql
volatile
set search_path = ''
as $$
begin
  -- The oldest lines go first; an analyst reads the end.
  return pg_catalog.right(
    pg_catalog.concat_ws(
      E'\n',
      logs,
      pg_catalog.to_char(pg_catalog.clock_timestamp() at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') || ' ' || pg_catalog.left(line, 16384)
    ),
    65536
  );
end;
$$;
