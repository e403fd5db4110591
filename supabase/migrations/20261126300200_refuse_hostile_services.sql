-- Purpose: a row that would cost the server its memory, act on a terminal or deceive a reader is refused like any other bad row,
-- by its path, the value and the rule; and what a refusal quotes is bounded and shows. The same rules stand in zod.

set lock_timeout = '5s'; -- never a queue of writers behind a migration that waits

-- E'' and \u: the text of these expressions is the same whatever standard_conforming_strings a session has.
create or replace function osp.visible(told text)
returns text
language sql
immutable
strict
set search_path = pg_catalog, pg_temp
as $$
  select case
    when told !~ acting.letters then told
    else (
      select pg_catalog.string_agg(
        case
          when one.letter ~ acting.letters
            then pg_catalog.concat(pg_catalog.chr(92), 'u', pg_catalog.lpad(pg_catalog.to_hex(pg_catalog.ascii(one.letter)), 4, '0'))
          else one.letter
        end, '' order by one.place
      )
      from pg_catalog.regexp_split_to_table(told, '') with ordinality as one (letter, place)
    )
  end
  from (
    select E'[\u0001-\u001f\u007f-\u009f\u200b\u2028-\u202e\u2060-\u2064\u2066-\u2069\ufeff\ufff9-\ufffb]'
  ) as acting (letters);
$$;
comment on function osp.visible is 'The text with an escape, such as \u001b, for each character that would move a cursor, end a line, turn the text around it or hide.';

create or replace function osp.quote_value(given jsonb)
returns text
language sql
immutable
strict
set search_path = pg_catalog, pg_temp
as $$
  -- The text of a number is up to 131072 digits for 10 bytes of jsonb: what is large is not written out to be cut.
  select case
    when pg_catalog.jsonb_typeof(given) in ('object', 'array') and pg_catalog.pg_column_size(given) > 1024
      then pg_catalog.concat('an ', pg_catalog.jsonb_typeof(given))
    else osp.visible(pg_catalog.left(given::text, 80))
  end;
$$;
comment on function osp.quote_value is 'A value for a refusal: its JSON, at most 80 characters and all of them visible; of what is large, its type.';

create or replace function osp.refuse_service(path text, given text, rule text)
returns void
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  raise exception using
    errcode = 'check_violation',
    schema = 'osp',
    table = 'services',
    constraint = 'services_valid_check',
    message = pg_catalog.format('%s: %s%s', path, case when given is null then 'null ' else pg_catalog.left(given, 80) || ' ' end, rule),
    hint = 'A correct row: insert into osp.services (service_schema, service_name, workflows) values '
      || '(''my_service'', ''My Service'', '
      || '''[{"name": "processBilling", "activities": ["calculateCharges", "sendInvoice"]}]'')';
end;
$$;

create or replace function osp.check_name(path text, name jsonb, names_before jsonb)
returns void
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  if name is null or pg_catalog.jsonb_typeof(name) <> 'string' then
    perform osp.refuse_service(path, osp.quote_value(name), 'must be a string');
  elsif (name #>> '{}') !~ '^[A-Za-z_$][A-Za-z0-9_$]{0,127}$' then
    perform osp.refuse_service(path, osp.quote_value(name), 'must match ^[A-Za-z_$][A-Za-z0-9_$]{0,127}$');
  elsif (name #>> '{}') ~ '^__(temporal|osp)_' then
    perform osp.refuse_service(path, osp.quote_value(name), 'must not begin with __temporal_ or __osp_: both are reserved');
  elsif osp.is_reserved_name(name #>> '{}') then
    perform osp.refuse_service(path, osp.quote_value(name), 'is reserved in JavaScript: choose another name');
  elsif names_before @> name then
    perform osp.refuse_service(path, osp.quote_value(name), 'stands twice');
  end if;
end;
$$;

create or replace function osp.check_workflows(workflows jsonb)
returns void
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
declare
  workflow jsonb;
  names jsonb := '[]';
  activities jsonb;
  unknown_key text;
  path text;
begin
  if pg_catalog.jsonb_typeof(workflows) <> 'array' then
    perform osp.refuse_service('workflows', osp.quote_value(workflows), 'must be an array of 1 to 100 workflows');
  elsif pg_catalog.jsonb_array_length(workflows) not between 1 and 100 then
    perform osp.refuse_service('workflows', pg_catalog.jsonb_array_length(workflows)::text || ' entries,', 'must have 1 to 100 entries');
  end if;
  for workflow, path in
    select value, pg_catalog.format('workflows[%s]', ordinality - 1)
    from pg_catalog.jsonb_array_elements(workflows) with ordinality
  loop
    if pg_catalog.jsonb_typeof(workflow) <> 'object' then
      perform osp.refuse_service(path, osp.quote_value(workflow), 'must be an object with name and activities');
    end if;
    select key into unknown_key from pg_catalog.jsonb_object_keys(workflow) as key where key not in ('name', 'activities') limit 1;
    if found then
      perform osp.refuse_service(path, osp.quote_value(pg_catalog.to_jsonb(unknown_key)), 'is unknown: a workflow has name and activities');
    end if;
    perform osp.check_name(path || '.name', workflow -> 'name', names);
    names := names || pg_catalog.jsonb_build_array(workflow -> 'name');
    activities := workflow -> 'activities';
    if activities is null or pg_catalog.jsonb_typeof(activities) <> 'array' then
      perform osp.refuse_service(path || '.activities', osp.quote_value(activities), 'must be an array of 1 to 100 activity names');
    elsif pg_catalog.jsonb_array_length(activities) not between 1 and 100 then
      perform osp.refuse_service(path || '.activities', pg_catalog.jsonb_array_length(activities)::text || ' entries,', 'must have 1 to 100 entries');
    end if;
    perform osp.check_names(path || '.activities', activities);
  end loop;
end;
$$;

create or replace function osp.check_options(options jsonb)
returns void
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  if pg_catalog.jsonb_typeof(options) <> 'object' then
    perform osp.refuse_service('options', osp.quote_value(options), 'must be an object');
  elsif pg_catalog.pg_column_size(options) > 1048576 then
    perform osp.refuse_service('options', pg_catalog.pg_column_size(options)::text || ' bytes,', 'must have at most 262144 bytes of JSON');
  -- Looked for no deeper than that: each step down is one on the server's stack.
  elsif pg_catalog.jsonb_path_exists(options, 'strict $.**{33}') then
    perform osp.refuse_service('options', osp.quote_value(options), 'must not be nested more than 32 deep');
  elsif pg_catalog.jsonb_path_exists(options, osp.unusable_numbers()) then
    perform osp.refuse_service(
      'options', osp.quote_value(pg_catalog.jsonb_path_query_first(options, osp.unusable_numbers())),
      'must hold no number beyond what JavaScript can: up to 1.7e308, or as small as 2.3e-308'
    );
  elsif pg_catalog.jsonb_typeof(options -> 'activity_endpoint') <> 'string' then
    perform osp.refuse_service('options.activity_endpoint', osp.quote_value(options -> 'activity_endpoint'), 'must be a string');
  elsif pg_catalog.jsonb_typeof(options -> 'activity_timeout_seconds') <> 'number' then
    perform osp.refuse_service('options.activity_timeout_seconds', osp.quote_value(options -> 'activity_timeout_seconds'), 'must be a whole number of seconds');
  elsif pg_catalog.jsonb_typeof(options -> 'activity_max_attempts') <> 'number' then
    perform osp.refuse_service('options.activity_max_attempts', osp.quote_value(options -> 'activity_max_attempts'), 'must be a whole number');
  end if;
end;
$$;

create or replace function osp.unusable_numbers()
returns pg_catalog.jsonpath
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
  -- A short exponent is a long text: 10 bytes of jsonb become 131 kB wherever it is written out, and JavaScript reads Infinity or 0.
  select 'strict $.** ? (@.type() == "number" && (
    @ > 1.7e308 || @ < -1.7e308 || (@ > 0 && @ < 2.3e-308) || (@ < 0 && @ > -2.3e-308)
  ))'::pg_catalog.jsonpath;
$$;
comment on function osp.unusable_numbers is 'Path of the numbers in a JSON value whose size a double cannot hold.';

create or replace function osp.is_valid_service(service_schema text, service_name text, workflows jsonb, options jsonb)
returns boolean
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  if service_schema is null or service_schema !~ '^[a-z][a-z0-9_]{0,62}$' then
    perform osp.refuse_service('service_schema', osp.quote_value(pg_catalog.to_jsonb(pg_catalog.left(service_schema, 80))), 'must match ^[a-z][a-z0-9_]{0,62}$');
  elsif service_name is null or pg_catalog.char_length(service_name) not between 1 and 200 then
    perform osp.refuse_service('service_name', osp.quote_value(pg_catalog.to_jsonb(pg_catalog.left(service_name, 80))), 'must have 1 to 200 characters');
  elsif service_name ~ E'[\u0001-\u001f\u007f-\u009f\u2028\u2029]' then
    perform osp.refuse_service('service_name', osp.quote_value(pg_catalog.to_jsonb(pg_catalog.left(service_name, 80))), 'must not hold control characters');
  elsif service_name ~ E'[\u200b\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff\ufff9-\ufffb]' then
    perform osp.refuse_service('service_name', osp.quote_value(pg_catalog.to_jsonb(pg_catalog.left(service_name, 80))), 'must not hold characters that turn text around or hide');
  -- Blanks, and what takes no room though it is a letter or joins some.
  elsif service_name !~ E'[^ \u00a0\u00ad\u034f\u061c\u115f\u1160\u1680\u17b4\u17b5\u180b-\u180f\u2000-\u200a\u200c-\u200f\u202f\u205f\u2065\u206a-\u206f\u2800\u3000\u3164\ufe00-\ufe0f\uffa0]' then
    perform osp.refuse_service('service_name', osp.quote_value(pg_catalog.to_jsonb(pg_catalog.left(service_name, 80))), 'must not be blank');
  elsif workflows is null then
    perform osp.refuse_service('workflows', null, 'must be an array of 1 to 100 workflows');
  elsif options is null then
    perform osp.refuse_service('options', null, 'must be an object');
  end if;
  -- First what bounds their texts, which are written out only below.
  perform osp.check_workflows(workflows);
  perform osp.check_options(options);
  if pg_catalog.octet_length(workflows::text) + pg_catalog.octet_length(options::text) > 262144 then
    perform osp.refuse_service('workflows and options',
      (pg_catalog.octet_length(workflows::text) + pg_catalog.octet_length(options::text))::text || ' bytes,', 'must have at most 262144 bytes of JSON');
  end if;
  return true;
end;
$$;

-- The check runs as whoever writes.
revoke execute on function osp.visible, osp.quote_value, osp.unusable_numbers from public;
grant execute on function osp.visible, osp.quote_value, osp.unusable_numbers to service_role, osp_writer;

do $$
declare
  service record;
begin
  for service in select s.service_schema, s.service_name, s.workflows, s.options from osp.services as s loop
    begin
      perform osp.is_valid_service(service.service_schema, service.service_name, service.workflows, service.options);
    exception when check_violation then
      raise warning 'Service "%" goes on, and is refused by the rules of now: correct it with its next change. %', service.service_schema, sqlerrm;
    end;
  end loop;
end;
$$;
