-- Purpose: the log of a deployment is bounded in bytes, cut between two entries, and readable however long it has grown.

set lock_timeout = '5s'; -- never a queue of writers behind a migration that waits

create or replace function osp_metadata.cut_text(whole text, most_bytes integer)
returns text
language plpgsql
immutable
set search_path = ''
as $$
declare
  bytes bytea;
  kept integer := most_bytes;
begin
  if whole is null or pg_catalog.octet_length(whole) <= most_bytes then
    return whole;
  end if;
  bytes := pg_catalog.convert_to(whole, 'UTF8');
  -- A byte 10xxxxxx goes on with a character that began before it.
  while kept > 0 and pg_catalog.get_byte(bytes, kept) & 192 = 128 loop
    kept := kept - 1;
  end loop;
  return pg_catalog.convert_from(pg_catalog.substring(bytes, 1, kept), 'UTF8')
    || pg_catalog.format(' … (%s bytes more)', pg_catalog.octet_length(bytes) - kept);
end;
$$;
comment on function osp_metadata.cut_text is 'The begin of a text, at most so many bytes of UTF-8 in whole characters, with a remark of how much was left out.';

create or replace function osp_metadata.append_log(logs text, line text)
returns text
language plpgsql
volatile
set search_path = ''
as $$
declare
  most_bytes constant integer := 65536;
  entry_start constant text := E'\n\\d{4}-\\d\\d-\\d\\dT';
  whole text := pg_catalog.concat_ws(
    E'\n',
    logs,
    pg_catalog.to_char(pg_catalog.clock_timestamp() at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') || ' '
      -- What goes on in further lines is set in: what begins at the margin is an entry.
      || pg_catalog.replace(osp_metadata.cut_text(pg_catalog.rtrim(line, E'\r\n'), 16384), E'\n', E'\n  ')
  );
  bytes bytea;
  newline integer;
begin
  if pg_catalog.octet_length(whole) <= most_bytes then
    return whole;
  end if;
  -- The oldest entries go first; an analyst reads the end. A newline is never part of another character.
  bytes := pg_catalog.convert_to(whole, 'UTF8');
  bytes := pg_catalog.substring(bytes, pg_catalog.octet_length(bytes) - most_bytes + 1);
  newline := position('\x0a'::bytea in bytes);
  whole := pg_catalog.convert_from(pg_catalog.substring(bytes, newline), 'UTF8');
  return pg_catalog.substring(whole, pg_catalog.regexp_instr(whole, entry_start) + 1);
end;
$$;
comment on function osp_metadata.append_log is 'A log with one more entry, stamped by the database''s clock. At most 65536 bytes: the oldest entries go first, an entry is kept whole or not at all.';
comment on column osp_metadata.worker_registry.logs is 'What happened, an entry each, newest last: instant (UTC), then what; further lines of an entry are set in. At most 64 KiB, the oldest entries go first.';

-- Who appends by a statement of his own.
revoke all on function osp_metadata.cut_text from public, anon, authenticated;
grant execute on function osp_metadata.cut_text to osp_deployer;
