-- Purpose: options of a service are refused at INSERT by the path, the value and the rule, as its workflows are: types, limits,
-- and options for an activity that no workflow has. The same rules stand in zod (supabase/functions/_shared/service-options.ts),
-- which alone says whether a URL is one, and which options there are besides: those of a newer Edge Function are no bad row.

set lock_timeout = '5s'; -- never a queue of writers behind a migration that waits

create or replace function osp.option_rules()
returns jsonb
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
  select '{
    "options": {
      "activity_endpoint": {"is": "url"},
      "activity_timeout_seconds": {"is": "whole number of seconds", "from": 1, "to": 86400},
      "activity_max_attempts": {"is": "whole number", "from": 1, "to": 1000},
      "activity_retry": {"is": "retry"},
      "max_concurrent_activities": {"is": "whole number", "from": 1, "to": 1000},
      "max_activities_per_second": {"is": "number", "from": 0.01, "to": 100000},
      "max_task_queue_activities_per_second": {"is": "number", "from": 0.01, "to": 100000},
      "replicas": {"is": "whole number", "from": 1, "to": 50},
      "activities": {"is": "activities"},
      "replay_gate": {"is": "true or false"}
    },
    "activity": {
      "endpoint": {"is": "url"},
      "timeout_seconds": {"is": "whole number of seconds", "from": 1, "to": 86400},
      "max_attempts": {"is": "whole number", "from": 1, "to": 1000},
      "retry": {"is": "retry"}
    },
    "retry": {
      "initial_interval_seconds": {"is": "number", "from": 0.001, "to": 86400},
      "backoff_coefficient": {"is": "number", "from": 1, "to": 100},
      "maximum_interval_seconds": {"is": "number", "from": 0.001, "to": 86400}
    }
  }'::jsonb;
$$;
comment on function osp.option_rules is 'Options of a service, of one of its activities and of a retry, each with what it is and its limits.';

create or replace function osp.check_option(path text, given jsonb, rule jsonb)
returns void
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
declare
  is_what constant text := rule ->> 'is';
  amount double precision;
  activity record;
begin
  if is_what = 'url' then
    if pg_catalog.jsonb_typeof(given) <> 'string' then
      perform osp.refuse_service(path, osp.quote_value(given), 'must be a string');
    elsif pg_catalog.char_length(given #>> '{}') > 2048 then
      perform osp.refuse_service(path, osp.quote_value(given), 'must have at most 2048 characters');
    end if;
  elsif is_what like '%number%' then
    -- As JavaScript reads it.
    amount := case when pg_catalog.jsonb_typeof(given) = 'number' then given::double precision end;
    if amount is null or (is_what like 'whole%' and amount <> pg_catalog.trunc(amount)) then
      perform osp.refuse_service(path, osp.quote_value(given), 'must be a ' || is_what);
    elsif amount not between (rule -> 'from')::double precision and (rule -> 'to')::double precision then
      perform osp.refuse_service(path, osp.quote_value(given), pg_catalog.format('must be from %s to %s', rule -> 'from', rule -> 'to'));
    end if;
  elsif is_what = 'true or false' then
    if pg_catalog.jsonb_typeof(given) <> 'boolean' then
      perform osp.refuse_service(path, osp.quote_value(given), 'must be true or false');
    end if;
  elsif is_what = 'retry' then
    perform osp.check_option_set(path, given, osp.option_rules() -> 'retry');
    if (given -> 'maximum_interval_seconds')::double precision < (given -> 'initial_interval_seconds')::double precision then
      perform osp.refuse_service(
        path || '.maximum_interval_seconds', osp.quote_value(given -> 'maximum_interval_seconds'),
        'must not be less than initial_interval_seconds'
      );
    end if;
  elsif is_what = 'activities' then
    if pg_catalog.jsonb_typeof(given) <> 'object' then
      perform osp.refuse_service(path, osp.quote_value(given), 'must be an object of activities and their options');
    -- The name of no activity, and the one key that JavaScript may take for something else.
    elsif given ? '__proto__' then
      perform osp.refuse_service(path, '"__proto__"', 'is no activity of this service''s workflows');
    end if;
    for activity in select one.key as name, one.value as options from pg_catalog.jsonb_each(given) as one loop
      perform osp.check_option_set(
        pg_catalog.concat(path, '.', osp.visible(pg_catalog.left(activity.name, 128))), activity.options, osp.option_rules() -> 'activity'
      );
    end loop;
  end if;
end;
$$;
comment on function osp.check_option is 'Refuses the value of an option that its rule in osp.option_rules does not allow.';

create or replace function osp.check_option_set(path text, given jsonb, rules jsonb)
returns void
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
declare
  option record;
begin
  if pg_catalog.jsonb_typeof(given) <> 'object' then
    perform osp.refuse_service(path, osp.quote_value(given), 'must be an object');
  end if;
  for option in select one.key as name, one.value as given from pg_catalog.jsonb_each(given) as one loop
    if rules -> option.name is not null then
      perform osp.check_option(path || '.' || option.name, option.given, rules -> option.name);
    elsif path <> 'options' then
      perform osp.refuse_service(
        path, osp.quote_value(pg_catalog.to_jsonb(option.name)),
        'is unknown: there are ' || (select pg_catalog.string_agg(known, ', ' order by known) from pg_catalog.jsonb_object_keys(rules) as known)
      );
    end if;
  end loop;
end;
$$;
comment on function osp.check_option_set is 'Refuses options of which one is not allowed, and unknown ones of an activity or a retry.';

create or replace function osp.check_options(options jsonb)
returns void
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  if options = '{}' then
    return;
  elsif pg_catalog.jsonb_typeof(options) <> 'object' then
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
  end if;
  perform osp.check_option_set('options', options, osp.option_rules() -> 'options');
end;
$$;
comment on function osp.check_options is 'Refuses options of a wrong type or beyond their limits. Unknown options, and endpoints that are no URL, are refused when the manifest is built.';

create or replace function osp.check_option_activities(options jsonb, workflows jsonb)
returns void
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
declare
  unused text;
begin
  if options -> 'activities' is null then
    return;
  end if;
  select pg_catalog.min(named.activity) into unused
  from (
    select given.activity from pg_catalog.jsonb_object_keys(options -> 'activities') as given (activity)
    except
    select used.activity
    from pg_catalog.jsonb_array_elements(workflows) as workflow, pg_catalog.jsonb_array_elements_text(workflow -> 'activities') as used (activity)
  ) as named;
  if unused is not null then
    perform osp.refuse_service('options.activities', osp.quote_value(pg_catalog.to_jsonb(unused)), 'is no activity of this service''s workflows');
  end if;
end;
$$;
comment on function osp.check_option_activities is 'Refuses options for an activity that no workflow has: they would do nothing, and nobody would notice.';

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
  perform osp.check_option_activities(options, workflows);
  if pg_catalog.octet_length(workflows::text) + pg_catalog.octet_length(options::text) > 262144 then
    perform osp.refuse_service('workflows and options',
      (pg_catalog.octet_length(workflows::text) + pg_catalog.octet_length(options::text))::text || ' bytes,', 'must have at most 262144 bytes of JSON');
  end if;
  return true;
end;
$$;

-- Rules come, and the services of before break them: such a one can be disabled as it is, not only deleted, and what is disabled is
-- checked when it is written and when it is enabled. A check constraint cannot see what the row was before; a trigger can.
alter table osp.services drop constraint if exists services_valid_check;
alter table osp.services add constraint services_valid_check
check (not enabled or osp.is_valid_service(service_schema, service_name, workflows, options)) not valid;

create or replace function osp.refuse_invalid()
returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  perform osp.is_valid_service(new.service_schema, new.service_name, new.workflows, new.options);
  return new;
end;
$$;
comment on function osp.refuse_invalid is 'Checks a disabled service where it is inserted or what it says is changed; disabling one changes nothing that it says.';

create or replace trigger services_validate_disabled_insert
before insert on osp.services
for each row
when (not new.enabled)
execute function osp.refuse_invalid();

create or replace trigger services_validate_disabled_update
before update on osp.services
for each row
when (
  not new.enabled
  and (
    old.service_schema is distinct from new.service_schema or old.service_name is distinct from new.service_name
    or old.workflows is distinct from new.workflows or old.options is distinct from new.options
  )
)
execute function osp.refuse_invalid();

comment on column osp.services.options is 'How the service runs: activity_endpoint (URL template), activity_timeout_seconds, activity_max_attempts, activity_retry, max_concurrent_activities, max_activities_per_second, max_task_queue_activities_per_second, replicas, and activities: what single ones of them have of their own.';

-- The check runs as whoever writes.
revoke execute on function osp.option_rules, osp.check_option, osp.check_option_set, osp.check_option_activities from public;
revoke all on function osp.refuse_invalid from public, anon, authenticated, service_role;
grant execute on function osp.option_rules, osp.check_option, osp.check_option_set, osp.check_option_activities to service_role, osp_writer;

do $$
declare
  service record;
begin
  for service in select s.service_schema, s.service_name, s.workflows, s.options from osp.services as s loop
    begin
      perform osp.is_valid_service(service.service_schema, service.service_name, service.workflows, service.options);
    exception when check_violation then
      raise warning 'Service "%" goes on, and is refused by the rules of now: correct it with its next change, or disable or delete it. %', service.service_schema, sqlerrm;
    end;
  end loop;
end;
$$;
