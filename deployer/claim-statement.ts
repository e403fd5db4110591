import { SUSPECT_FROM } from "./claim.ts";

/** Of the requests that a platform allows in an hour, those that may be used before nothing new is begun. */
const SHARE_TO_BEGIN = 0.8;

/** Whether so much of the requests of the platform p are used. */
const usedUp = (share: string) =>
  `(p.window_started_at > clock_timestamp() - interval '1 hour' and p.window_requests >= p.window_quota * ${share})`;

/**
 * $1 owner, $2 limit, $3 lease in seconds, $4 platform, $5 whether a suspect may be taken. Rows whose lease ran out are
 * claimable like those that wait. `deployment_status || ''` names the index worker_registry_claimable_idx, which nothing else is
 * planned on. Rows are looked up by `any (array(…))`: the planner takes that for a few, and so by index, however many rows it
 * believes to be waiting.
 *
 * Setting its plan up takes a claim nearly as long as running it: what few claims need is a function, called where it is needed.
 */
export const CLAIM = `
with platform as materialized (
  select
    p.paused_at is not null or p.throttled_until > clock_timestamp() or ${usedUp("1.0")} as is_closed,
    ${usedUp(`${SHARE_TO_BEGIN}`)} as is_nearly_used_up,
    -- In one statement with the claim: the slots stay ours until it is committed.
    case when p.concurrency_limit is not null then osp_metadata.free_slots(p.name) end as free_slots
  from osp_metadata.platforms as p
  where p.name = $4
), waiting as (
  select r.id
  from osp_metadata.worker_registry as r
  where
    r.deployment_status || '' in ('pending', 'deploying')
    -- One condition to the planner, which takes it for true of every second row: believing that hardly any satisfies so many,
    -- it would read and sort all that wait instead of the oldest.
    and case when
      -- Not waited for on the disk: an attempt's first report is, which comes before anything that changes the platform.
      (select set_config('synchronous_commit', 'off', true)) is not null
      and (select p.is_closed from platform as p) is not true
      -- The last of the hour's requests are for what is under way, and for stops.
      and (r.manifest is null or (select p.is_nearly_used_up from platform as p) is not true)
      and (
        (
          r.deployment_status || '' = 'pending'
          and (r.next_attempt_at is null or r.next_attempt_at <= clock_timestamp())
          -- Looked up for each row: "not exists" would have all that is being deployed read, and all that was lately.
          and not coalesce((
            select true from osp_metadata.worker_registry as o
            where o.service_schema = r.service_schema and o.deployment_status = 'deploying'
          ), false)
        )
        or (
          r.deployment_status || '' = 'deploying' and r.lease_expires_at <= clock_timestamp()
          -- What so many deployers died with is suspect: of that the oldest alone, which is looked for once, when one is met.
          and (
            osp_metadata.count_left_attempts(r.id) < ${SUSPECT_FROM}
            or ($5 and r.id = (select osp_metadata.oldest_suspect(${SUSPECT_FROM})))
          )
        )
      )
    then true end
  order by r.created_at, r.id
  -- A number that the planner knew would have it plan each claim anew.
  limit (select least($2::integer, (select p.free_slots from platform as p)))
  for update skip locked
), moment as materialized (
  select clock_timestamp() as at
), claimed as (
  update osp_metadata.worker_registry as r
  set
    deployment_status = 'deploying',
    started_at = coalesce(r.started_at, (select m.at from moment as m)),
    next_attempt_at = null,
    lease_owner = $1,
    lease_token = gen_random_uuid(),
    lease_expires_at = clock_timestamp() + make_interval(secs => $3),
    platform = $4,
    claimed_at = (select m.at from moment as m),
    attempt_id = null,  -- its first report begins it
    -- Of the first claim its first report tells as well: to write a line takes a tenth of a claim.
    logs = case when r.started_at is null then r.logs else osp_metadata.append_log(
      r.logs, 'claimed by ' || $1 || coalesce(': ' || osp_metadata.abandon_attempts(r.id), '')
    ) end
  where r.id = any (array(select w.id from waiting as w))
  returning
    r.id, r.service_schema, r.revision, r.source, r.manifest, r.manifest_sha256, r.manifest_path, r.lease_token,
    r.platform_service_id, r.platform_deployment_id, r.stop_requested_at, r.created_at, r.started_at <> r.claimed_at as is_again
)
select
  c.id, c.service_schema, c.revision, c.source, c.manifest::text as manifest, c.manifest_sha256, c.manifest_path, c.lease_token,
  c.manifest is not null and c.stop_requested_at is not null as is_superseded,
  -- In one column, which a service's first claim leaves out: what is returned takes time by the column.
  case when c.is_again or c.revision > 1 then (
    select json_build_object(
      'known_service_id', coalesce(c.platform_service_id, p.service_id),
      'known_deployment_id', c.platform_deployment_id,
      'rejected_deployment_ids', coalesce(p.rejected_deployment_ids, '{}'),
      'has_served', p.has_served,
      'attempt', 1 + p.counted,
      'deferrals', p.deferrals,
      'abandoned', p.abandoned
    )
    from osp_metadata.past_of(c.id, c.service_schema, c.revision, $4) as p
  ) end as past
from claimed as c
order by c.created_at, c.id`;
