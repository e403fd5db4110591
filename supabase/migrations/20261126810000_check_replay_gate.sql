-- Purpose: options.replay_gate is true or false; anything else is refused like any other bad value. The same rule stands in zod
-- (supabase/functions/_shared/service-options.ts).

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

comment on column osp.services.options is 'How the service runs: activity_endpoint (URL template), activity_timeout_seconds, activity_max_attempts, activity_retry, max_concurrent_activities, max_activities_per_second, max_task_queue_activities_per_second, replicas, activities (what single ones of them have of their own), code (its own code, as osp code push names it) and replay_gate (false: open workflows are not replayed with new code before it is deployed).';
