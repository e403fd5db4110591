-- Purpose: one activity may have limits of its own: how many at once, how many a second. The same rules stand in zod
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
      "retry": {"is": "retry"},
      "max_concurrent": {"is": "whole number", "from": 1, "to": 1000},
      "max_per_second": {"is": "number", "from": 0.01, "to": 100000},
      "max_task_queue_per_second": {"is": "number", "from": 0.01, "to": 100000}
    },
    "retry": {
      "initial_interval_seconds": {"is": "number", "from": 0.001, "to": 86400},
      "backoff_coefficient": {"is": "number", "from": 1, "to": 100},
      "maximum_interval_seconds": {"is": "number", "from": 0.001, "to": 86400}
    }
  }'::jsonb;
$$;

create or replace function osp.check_option_activities(options jsonb, workflows jsonb)
returns void
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
declare
  unused text;
  limited integer;
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
  select count(*) into limited
  from pg_catalog.jsonb_each(options -> 'activities') as given
  where given.value ?| array['max_concurrent', 'max_per_second', 'max_task_queue_per_second'];
  if limited > 20 then
    perform osp.refuse_service('options.activities', limited::text || ' of them with limits', 'must limit at most 20 activities');
  end if;
end;
$$;
comment on function osp.check_option_activities is 'Refuses options for an activity that no workflow has: they would do nothing, and nobody would notice. And limits for more than twenty: each costs its worker a task queue more to poll.';
