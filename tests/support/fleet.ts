import type { ClientBase } from "pg";

export interface FleetSize {
  services: number;
  /** Rows of worker_registry for each of them, one per revision. */
  revisions: number;
}

/** What a fleet's history gains in a week: a longer history has more weeks, not busier ones. */
const ROWS_A_WEEK = 10_000;

/** One service in a fleet that is edited all the time: a fiftieth of all rows of the registry are its. */
export const NOISY_SERVICE = "noisy_service";

/** Name of a service of the fleet, from 0. Of a hundred, 3 failed, 2 are deleted and 1 is disabled. */
export function fleetService(number: number): string {
  return `fleet_service_${String(number).padStart(6, "0")}`;
}

/**
 * Fills an empty, migrated database with a fleet and its history, as years of use would have left it: every row has ended,
 * nothing waits. Set-wise and without triggers; takes the rights of a superuser.
 */
export async function loadFleet(client: ClientBase, { services, revisions }: FleetSize): Promise<void> {
  await client.query(`set session_replication_role = replica`);
  await setIndexes(client, false);
  // Tables that are emptied in the same transaction need no WAL, where the server allows that (wal_level = minimal).
  await client.query(
    `begin; truncate osp.services, osp_metadata.service_intents, osp_metadata.worker_registry cascade`,
  );
  await client.query(SERVICES, [services]);
  await client.query(INTENTS, [services, revisions]);
  await client.query(REGISTRY, [services, revisions, ROWS_A_WEEK]);
  await client.query(ATTEMPTS);
  await client.query(`commit`);
  await setIndexes(client, true);
  await client.query(`set session_replication_role = origin`);
  for (const table of TABLES) await client.query(`vacuum (analyze) ${table}`);
}

const TABLES = [
  "osp.services",
  "osp_metadata.service_intents",
  "osp_metadata.worker_registry",
  "osp_metadata.deployment_attempts",
];

/** An index that is not ready is not written to; building it once at the end is many times faster. */
async function setIndexes(client: ClientBase, areOn: boolean): Promise<void> {
  await client.query(
    `update pg_index set indisready = $1, indisvalid = $1 where indrelid = any ($2::text[]::regclass[])`,
    [areOn, TABLES],
  );
  if (!areOn) return;
  for (const table of TABLES) await client.query(`reindex table ${table}`);
}

/** A number that looks random and is the same every time, 0 to 99. */
const chance = (...parts: string[]) => `(hashint8(${parts.join(" * 7919 + ")}) & 1023) * 100 / 1024`;

/** $1 services, in no order, as their owners insert them. Those that are deleted have no row. */
const SERVICES = `
insert into osp.services (service_schema, service_name, workflows, options, enabled, created_at, updated_at)
select
  'fleet_service_' || lpad(s::text, 6, '0'), 'Service No. ' || s,
  jsonb_build_array(
    jsonb_build_object('name', 'processOrder', 'activities', jsonb_build_array('validateOrder', 'prepareFood', 'deliverOrder')),
    jsonb_build_object('name', 'reserveTable', 'activities', jsonb_build_array('findTable', 'confirmReservation'))
  ),
  jsonb_build_object('activity_endpoint', 'https://osp.example/' || s || '/{activity}', 'activity_timeout_seconds', 30),
  s % 100 <> 5, now() - interval '2 years', now() - interval '1 day'
from (select g * 7919 % $1::bigint as s from generate_series(0, $1::bigint - 1) as g) as shuffled
where s % 100 not in (3, 4)
union all
select
  '${NOISY_SERVICE}', 'Noisy Service', '[{"name": "doWork", "activities": ["work"]}]', '{}', true, now() - interval '2 years', now()`;

/** $1 services, $2 revisions. */
const INTENTS = `
insert into osp_metadata.service_intents
  (service_schema, revision, wanted, source, requested_at, requested_by, enqueued_revision)
select
  'fleet_service_' || lpad(s::text, 6, '0'), $2::integer, case when s % 100 in (3, 4, 5) then 'stop' else 'run' end,
  case when s % 100 in (3, 4) then 'delete' when s % 100 = 5 then 'disable' else 'update' end,
  now() - interval '1 week', 'osp_writer', $2
from generate_series(0, $1::bigint - 1) as s
union all
select '${NOISY_SERVICE}', revision, 'run', 'update', now() - interval '1 week', 'osp_writer', revision
from (select greatest($1::bigint * $2 / 50, 2)::integer as revision) as noisy`;

/** $1 services, $2 revisions, $3 rows a week. In the order in which they were made, so that a service's rows lie apart. */
const REGISTRY = `
insert into osp_metadata.worker_registry (
  service_schema, manifest_path, deployment_status, deployed_at, logs, retry_count, last_health_check, worker_version, service_id,
  revision, source, requested_by, spec, spec_hash, manifest, manifest_sha256, created_at, started_at, stop_requested_at, stopped_at,
  error_code, error_message, platform, platform_service_id, platform_deployment_id
)
with numbered as (
  select
    g, 'fleet_service_' || lpad((g * 7919 % $1::bigint)::text, 6, '0') as service_schema, (g / $1 + 1)::integer as revision,
    $2::integer as newest, g * 7919 % $1 as service_number, g * 7919 % $1 % 100 as kind, ${chance("g", "3")} as luck
  from generate_series(0, $1::bigint * $2 - 1) as g
  union all
  select n * 50 - 25, '${NOISY_SERVICE}', n::integer, greatest($1::bigint * $2 / 50, 2)::integer, null, 99, case when n % 10 = 0 then 50 else 99 end
  from generate_series(1, greatest($1::bigint * $2 / 50, 2)) as n
), judged as (
  select n.*,
    case
      when revision = newest and kind < 3 then 'failed'
      when revision = newest and kind in (3, 4, 5) then 'stopped'
      when revision = newest or (revision = newest - 1 and kind < 3) then 'deployed'
      when luck < 4 then 'failed'
      else 'stopped'
    end as status,
    now() - make_interval(secs => ($1::bigint * $2 - g) * 7 * 86400.0 / $3::integer) as at,
    revision = newest and kind in (3, 4, 5) as is_stop,
    -- Of the noisy one the later half was superseded before anybody deployed it, all but the newest.
    service_schema = '${NOISY_SERVICE}' and revision > newest / 2 and revision < newest as is_skipped
  from numbered as n
)
select
  j.service_schema, 'manifests/' || j.service_schema || '.json', j.status,
  case when j.status <> 'failed' and not j.is_stop and not j.is_skipped then j.at + interval '4 seconds' end,
  concat_ws(E'\\n',
    to_char(j.at, 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') || ' revision ' || j.revision || ' enqueued (update)',
    to_char(j.at, 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') || ' claimed by deployer-host:4711',
    to_char(j.at, 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') || ' attempt 1: deploying on railway',
    to_char(j.at, 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') || ' attempt 1: deployed, the worker polls its task queues'
  ),
  case when j.status = 'failed' then 2 when j.luck between 4 and 11 then 1 else 0 end,
  -- Twenty are silent, however many there are; the others are seen for as long as anybody measures.
  case when j.status = 'deployed' then
    case when j.service_number between 6 and 25 then j.at + interval '4 seconds' else now() + interval '1 day' end
  end, '0.1.0', s.id,
  j.revision, case when j.is_stop then 'delete' when j.revision = 1 then 'insert' else 'update' end, 'osp_writer',
  case when s.id is not null then jsonb_build_object('id', s.id, 'service_schema', j.service_schema, 'service_name', s.service_name,
    'workflows', s.workflows, 'options', s.options, 'enabled', s.enabled) end,
  s.spec_hash,
  case when not j.is_stop then jsonb_build_object('manifest_version', 1, 'service_schema', j.service_schema,
    'service_name', s.service_name, 'revision', j.revision, 'activities_path', './service/activities.ts',
    'workflows', s.workflows, 'options', s.options) end,
  case when not j.is_stop then encode(sha256(convert_to(j.service_schema || j.revision, 'UTF8')), 'hex') end,
  j.at, case when not j.is_skipped then j.at + interval '1 second' end,
  case when j.is_stop then j.at end, case when j.status = 'stopped' then j.at + interval '1 day' end,
  case when j.status = 'failed' then (array['not_polling', 'worker_exited', 'build_failed'])[1 + j.g % 3] end,
  case when j.status = 'failed' then 'The worker does not serve its task queues: nobody polls ' || j.service_schema || '-tasks' end,
  'railway', case when not j.is_skipped then 'service-' || j.service_schema end,
  case when not j.is_skipped then 'deployment-' || j.g end
from judged as j
left join (
  select *, osp_metadata.hash_spec(service_name, workflows, options) as spec_hash from osp.services
) as s on s.service_schema = j.service_schema
order by j.g`;

/** One attempt for each row, two for some, three for those that failed. */
const ATTEMPTS = `
insert into osp_metadata.deployment_attempts (
  deployment_id, service_schema, revision, attempt, deployer, step, started_at, ended_at, outcome, error_class, error_code, error_message
)
select
  r.id, r.service_schema, r.revision, n, 'deployer-host:4711', 'readiness',
  r.started_at + n * interval '1 second', r.started_at + n * interval '1.5 seconds',
  case
    when n <= r.retry_count then 'retry' when r.deployment_status = 'failed' then 'failed'
    when r.manifest is null then 'stopped' else 'deployed'
  end,
  case when n <= r.retry_count then 'transient' end, case when n <= r.retry_count then 'not_polling' end,
  case when n <= r.retry_count then 'The worker does not serve its task queues' end
from osp_metadata.worker_registry as r
cross join generate_series(1, r.retry_count + 1) as n
where r.started_at is not null
order by r.created_at, n`;

/**
 * Has so many services wait: each has a pending row of the registry and a newer intent that waits for the Edge Function; the noisy one
 * is the ninth. Without triggers: the session is to have session_replication_role = replica.
 */
export async function letWait(client: ClientBase, services: number): Promise<void> {
  const waiting = `
    select i.service_schema, i.enqueued_revision + 1 as revision, row_number() over (order by md5(i.service_schema)) as place
    from osp_metadata.service_intents as i
    where i.wanted = 'run' and i.service_schema <> '${NOISY_SERVICE}'
    order by place
    limit $1`;
  await client.query(
    `insert into osp_metadata.worker_registry (service_schema, manifest_path, revision, source, manifest, created_at, logs)
    select service_schema, 'manifests/' || service_schema || '.json', revision, 'update', '{}'::jsonb, now() + place * interval '1 ms', 'a line'
    from (${waiting}) as w
    union all
    select service_schema, 'manifests/noisy.json', revision + 1, 'update', '{}'::jsonb, now() + interval '8.5 ms', 'a line'
    from osp_metadata.service_intents where service_schema = '${NOISY_SERVICE}'`,
    [services],
  );
  await client.query(
    `update osp_metadata.service_intents as i
    set revision = w.revision + 1, enqueued_revision = w.revision, requested_at = now() + w.place * interval '1 ms'
    from (${waiting}) as w
    where i.service_schema = w.service_schema`,
    [services],
  );
}
