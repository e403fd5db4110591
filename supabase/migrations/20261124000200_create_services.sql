-- Purpose: osp.services, the desired state, and the check that refuses a bad row with a message that helps.
-- The same rules stand in zod (supabase/functions/_shared/service.ts); one table of cases tests both.

set lock_timeout = '5s'; -- never a queue of writers behind a migration that waits

create or replace function osp.refuse_service(path text, given text, rule text)
returns void
language plpgsql
immutable
set search_path = ''
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
comment on function osp.refuse_service is 'Raises 23514 with the path, the value found there, the rule it breaks and a correct example.';

create or replace function osp.is_reserved_name(name text)
returns boolean
language sql
immutable
set search_path = ''
as $$
  select name in (
    'default', 'constructor', 'hasOwnProperty', 'isPrototypeOf', 'propertyIsEnumerable', 'toLocaleString', 'toString', 'valueOf',
    '__proto__', '__defineGetter__', '__defineSetter__', '__lookupGetter__', '__lookupSetter__'
  );
$$;
comment on function osp.is_reserved_name is 'Names that every JavaScript object or module has already.';

create or replace function osp.check_name(path text, name jsonb, names_before jsonb)
returns void
language plpgsql
immutable
set search_path = ''
as $$
begin
  if name is null or pg_catalog.jsonb_typeof(name) <> 'string' then
    perform osp.refuse_service(path, name::text, 'must be a string');
  elsif (name #>> '{}') !~ '^[A-Za-z_$][A-Za-z0-9_$]{0,127}$' then
    perform osp.refuse_service(path, name::text, 'must match ^[A-Za-z_$][A-Za-z0-9_$]{0,127}$');
  elsif (name #>> '{}') ~ '^__(temporal|osp)_' then
    perform osp.refuse_service(path, name::text, 'must not begin with __temporal_ or __osp_: both are reserved');
  elsif osp.is_reserved_name(name #>> '{}') then
    perform osp.refuse_service(path, name::text, 'is reserved in JavaScript: choose another name');
  elsif names_before @> name then
    perform osp.refuse_service(path, name::text, 'stands twice');
  end if;
end;
$$;
comment on function osp.check_name is 'Refuses a bad name of a workflow or an activity, or one that stands before it.';

create or replace function osp.check_names(path text, names jsonb)
returns void
language plpgsql
immutable
set search_path = ''
as $$
declare
  name jsonb;
  names_before jsonb := '[]';
begin
  for name in select value from pg_catalog.jsonb_array_elements(names) loop
    perform osp.check_name(pg_catalog.format('%s[%s]', path, pg_catalog.jsonb_array_length(names_before)), name, names_before);
    names_before := names_before || pg_catalog.jsonb_build_array(name);
  end loop;
end;
$$;
comment on function osp.check_names is 'Refuses a list of activity names that holds a bad or a duplicate one.';

create or replace function osp.check_workflows(workflows jsonb)
returns void
language plpgsql
immutable
set search_path = ''
as $$
declare
  workflow jsonb;
  names jsonb := '[]';
  activities jsonb;
  unknown_key text;
  path text;
begin
  if pg_catalog.jsonb_typeof(workflows) <> 'array' then
    perform osp.refuse_service('workflows', workflows::text, 'must be an array of 1 to 100 workflows');
  elsif pg_catalog.jsonb_array_length(workflows) not between 1 and 100 then
    perform osp.refuse_service('workflows', pg_catalog.jsonb_array_length(workflows)::text || ' entries,', 'must have 1 to 100 entries');
  end if;
  for workflow, path in
    select value, pg_catalog.format('workflows[%s]', ordinality - 1)
    from pg_catalog.jsonb_array_elements(workflows) with ordinality
  loop
    if pg_catalog.jsonb_typeof(workflow) <> 'object' then
      perform osp.refuse_service(path, workflow::text, 'must be an object with name and activities');
    end if;
    select key into unknown_key from pg_catalog.jsonb_object_keys(workflow) as key where key not in ('name', 'activities') limit 1;
    if found then
      perform osp.refuse_service(path, '"' || unknown_key || '"', 'is unknown: a workflow has name and activities');
    end if;
    perform osp.check_name(path || '.name', workflow -> 'name', names);
    names := names || pg_catalog.jsonb_build_array(workflow -> 'name');
    activities := workflow -> 'activities';
    if activities is null or pg_catalog.jsonb_typeof(activities) <> 'array' then
      perform osp.refuse_service(path || '.activities', activities::text, 'must be an array of 1 to 100 activity names');
    elsif pg_catalog.jsonb_array_length(activities) not between 1 and 100 then
      perform osp.refuse_service(path || '.activities', pg_catalog.jsonb_array_length(activities)::text || ' entries,', 'must have 1 to 100 entries');
    end if;
    perform osp.check_names(path || '.activities', activities);
  end loop;
end;
$$;
comment on function osp.check_workflows is 'Refuses the column workflows unless it is a list of workflows, each with a name and activities.';

create or replace function osp.check_options(options jsonb)
returns void
language plpgsql
immutable
set search_path = ''
as $$
begin
  if pg_catalog.jsonb_typeof(options) <> 'object' then
    perform osp.refuse_service('options', options::text, 'must be an object');
  elsif pg_catalog.jsonb_typeof(options -> 'activity_endpoint') <> 'string' then
    perform osp.refuse_service('options.activity_endpoint', (options -> 'activity_endpoint')::text, 'must be a string');
  elsif pg_catalog.jsonb_typeof(options -> 'activity_timeout_seconds') <> 'number' then
    perform osp.refuse_service('options.activity_timeout_seconds', (options -> 'activity_timeout_seconds')::text, 'must be a whole number of seconds');
  elsif pg_catalog.jsonb_typeof(options -> 'activity_max_attempts') <> 'number' then
    perform osp.refuse_service('options.activity_max_attempts', (options -> 'activity_max_attempts')::text, 'must be a whole number');
  end if;
end;
$$;
comment on function osp.check_options is 'Refuses options of a wrong type. Ranges and unknown options are checked when the manifest is built.';

create or replace function osp.is_valid_service(service_schema text, service_name text, workflows jsonb, options jsonb)
returns boolean
language plpgsql
immutable
set search_path = ''
as $$
begin
  if service_schema is null or service_schema !~ '^[a-z][a-z0-9_]{0,62}$' then
    perform osp.refuse_service('service_schema', pg_catalog.to_json(service_schema)::text, 'must match ^[a-z][a-z0-9_]{0,62}$');
  elsif service_name is null or pg_catalog.char_length(service_name) not between 1 and 200 then
    perform osp.refuse_service('service_name', pg_catalog.to_json(service_name)::text, 'must have 1 to 200 characters');
  elsif service_name ~ '[\x01-\x1f\x7f]' then
    perform osp.refuse_service('service_name', pg_catalog.to_json(service_name)::text, 'must not hold control characters');
  elsif service_name !~ '[^ ]' then
    perform osp.refuse_service('service_name', pg_catalog.to_json(service_name)::text, 'must not be blank');
  elsif workflows is null then
    perform osp.refuse_service('workflows', null, 'must be an array of 1 to 100 workflows');
  elsif options is null then
    perform osp.refuse_service('options', null, 'must be an object');
  elsif pg_catalog.octet_length(workflows::text) + pg_catalog.octet_length(options::text) > 262144 then
    perform osp.refuse_service('workflows and options',
      (pg_catalog.octet_length(workflows::text) + pg_catalog.octet_length(options::text))::text || ' bytes,', 'must have at most 262144 bytes of JSON');
  end if;
  perform osp.check_workflows(workflows);
  perform osp.check_options(options);
  return true;
end;
$$;
comment on function osp.is_valid_service is 'True, or raises 23514: a check constraint that can say what is wrong.';

create table if not exists osp.services (
  id uuid not null default gen_random_uuid(),
  service_schema text not null,
  service_name text not null,
  workflows jsonb not null,
  options jsonb not null default '{}',
  enabled boolean not null default true,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint services_pkey primary key (id),
  constraint services_service_schema_key unique (service_schema),
  constraint services_valid_check check (osp.is_valid_service(service_schema, service_name, workflows, options))
);
comment on table osp.services is 'Services that should run, one row each. Insert a row and its worker is deployed; delete it and the worker is removed.';
comment on column osp.services.id is 'Identifies the row; a service deleted and inserted again gets another.';
comment on column osp.services.service_schema is 'Name of the service, immutable: ^[a-z][a-z0-9_]{0,62}$. Its worker polls the task queue <service_schema>-tasks.';
comment on column osp.services.service_name is 'Name for people, 1 to 200 characters.';
comment on column osp.services.workflows is 'Workflows with their activities, in the order they run: [{"name": "…", "activities": ["…"]}]; 1 to 100 of each.';
comment on column osp.services.options is 'How the service runs: activity_endpoint (URL template), activity_timeout_seconds, activity_max_attempts.';
comment on column osp.services.enabled is 'False stops the worker and keeps the row.';
comment on column osp.services.created_at is 'When the row was inserted.';
comment on column osp.services.updated_at is 'When the row last changed.';

alter table osp.services enable row level security;

-- NOT NULL is checked before CHECK and has a message without path or hint: nulls are refused here, by the same words.
create or replace function osp.refuse_null()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
  perform osp.is_valid_service(new.service_schema, new.service_name, new.workflows, new.options);
  if new.enabled is null then
    perform osp.refuse_service('enabled', null, 'must be true or false');
  end if;
  return new;
end;
$$;
comment on function osp.refuse_null is 'Gives a null the same refusal as any other bad value.';

create or replace trigger services_refuse_null
before insert or update on osp.services
for each row
when (new.service_schema is null or new.service_name is null or new.workflows is null or new.options is null or new.enabled is null)
execute function osp.refuse_null();

create or replace function osp.refuse_rename()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
  raise exception using
    errcode = 'check_violation',
    schema = 'osp',
    table = 'services',
    column = 'service_schema',
    message = pg_catalog.format('service_schema: "%s" cannot become "%s": it names the worker, its task queue and its history', old.service_schema, new.service_schema),
    hint = 'Insert a row with the new service_schema and delete the old one.';
end;
$$;
comment on function osp.refuse_rename is 'service_schema is immutable.';

create or replace trigger services_refuse_rename
before update of service_schema on osp.services
for each row
when (old.service_schema is distinct from new.service_schema)
execute function osp.refuse_rename();

create or replace function osp.touch_updated_at()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
  new.updated_at := pg_catalog.now();
  return new;
end;
$$;
comment on function osp.touch_updated_at is 'Keeps updated_at true.';

create or replace trigger services_touch_updated_at
before update on osp.services
for each row
when (old.* is distinct from new.*)
execute function osp.touch_updated_at();
