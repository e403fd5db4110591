import type { Pool } from "pg";
import { z } from "zod";
import { type Claim, readClaims, SUSPECT_FROM, type UnreadableClaim } from "./claim.ts";
import type { Settlement } from "./outcome.ts";
import { within } from "./connection.ts";
import { COUNTED, settle } from "./settle.ts";
import { storable } from "../supabase/functions/_shared/problems.ts";

const renewalSchema = z.object({ lease_token: z.string(), is_superseded: z.boolean() });
export type Renewal = z.infer<typeof renewalSchema>;

/** All SQL of the deployer. Only the database's clock counts, and only the lease token decides who may write. */
export interface Registry {
  /**
   * Takes what waits, oldest first, and what a deployer left whose lease ran out. Of rows that several deployers died with
   * at most one, and none unless `takesSuspect`: it must not take others along again.
   */
  claim(limit: number, takesSuspect?: boolean): Promise<Claim[]>;
  /** Prolongs leases; a token that is not in the answer has been lost. */
  renew(tokens: string[]): Promise<Renewal[]>;
  /** Records how far an attempt has come. */
  report(claim: Claim, step: string, line: string): Promise<void>;
  /** Persists ids of the platform; what is left out stays. False: the lease was lost; then nothing may be changed any more. */
  remember(claim: Claim, ids: { serviceId?: string | undefined; deploymentId?: string | undefined }): Promise<boolean>;
  /** Whether it is still to come about: it waits or somebody deploys it, and no newer revision replaces it. */
  isOpen(claim: Claim): Promise<boolean>;
  /**
   * Ends an attempt. False: the lease was lost, nothing is written. Where the database is away for a moment it is tried
   * again for as long as a lease lasts.
   */
  settle(claim: Claim, settlement: Settlement): Promise<boolean>;
  countWaitingIntents(olderThanSeconds: number): Promise<number>;
  reconcile(): Promise<number>;
  /** Removes what retention lets go of; how many objects of Storage wait for the Edge Function to remove them. */
  prune(): Promise<number>;
  platformInstance(): Promise<string>;
}

export interface RegistrySettings {
  owner: string;
  platform: string;
  leaseSeconds: number;
  /** How long a renewal may take. */
  renewTimeoutMs: number;
  /** Told of each claim that cannot be read; it is settled already. */
  onUnreadable?: (claim: UnreadableClaim, outcome: Settlement["outcome"]) => void;
}

/** An unreadable stop is put off, not failed: what was deleted must not go on running. */
const UNREADABLE_DELAY_SECONDS = 60;

export function createRegistry(pool: Pool, settings: RegistrySettings): Registry {
  const { owner, platform, leaseSeconds, renewTimeoutMs } = settings;
  return {
    async claim(limit, takesSuspect = true) {
      const { rows } = await pool.query(CLAIM, [owner, limit, leaseSeconds, platform, takesSuspect]);
      const { claims, unreadable } = readClaims(rows);
      await Promise.all(unreadable.map((claim) => giveUp(claim, pool, settings)));
      return claims;
    },
    async renew(tokens) {
      if (tokens.length === 0) return [];
      const { rows } = await pool.query(within(renewTimeoutMs, RENEW, [tokens, leaseSeconds]));
      return z.array(renewalSchema).parse(rows);
    },
    async report(claim, step, line) {
      await pool.query(REPORT, [claim.id, claim.lease_token, claim.attempt_id, step, storable(line)]);
    },
    async remember(claim, { serviceId, deploymentId }) {
      const askedAt = performance.now();
      const { rowCount } = await pool.query(REMEMBER, [claim.id, claim.lease_token, serviceId, deploymentId]);
      // An answer that a paused process reads after its lease tells of the past.
      return rowCount === 1 && performance.now() - askedAt < leaseSeconds * 1000;
    },
    isOpen: async (claim) => (await pool.query(IS_OPEN, [claim.id])).rowCount === 1,
    settle: (claim, settlement) => settle(claim, settlement, pool, leaseSeconds),
    async countWaitingIntents(olderThanSeconds) {
      return count(await pool.query(`select osp_metadata.count_waiting_intents($1) as count`, [olderThanSeconds]));
    },
    async reconcile() {
      return count(await pool.query(`select osp_metadata.reconcile() as count`));
    },
    async prune() {
      return count(await pool.query(`select osp_metadata.prune() as count`));
    },
    async platformInstance() {
      const { rows } = await pool.query(`select instance from osp_metadata.platforms where name = $1`, [platform]);
      return z.tuple([z.object({ instance: z.string() })]).parse(rows)[0].instance;
    },
  };
}

/** Ends a claim that cannot be read: it would be held until its lease ends, and be claimed again for ever. */
async function giveUp(claim: UnreadableClaim, pool: Pool, { onUnreadable }: RegistrySettings): Promise<void> {
  const { service_schema, problem } = claim;
  const message = `The deployer cannot read this deployment: ${problem}. Make a new one: ` +
    `select osp.redeploy('${service_schema}')`;
  const failure = { class: "permanent", code: "claim_unreadable", message, facts: {} } as const;
  const settlement: Settlement = claim.manifest === null
    ? { outcome: "deferred", failure, delaySeconds: UNREADABLE_DELAY_SECONDS }
    : { outcome: "failed", failure };
  try {
    await settle(claim, settlement, pool, 0);
    onUnreadable?.(claim, settlement.outcome);
  } catch {
    // The database is away: the lease runs out, and whoever claims it then comes here again.
  }
}

function count({ rows }: { rows: unknown[] }): number {
  return z.tuple([z.object({ count: z.int() })]).parse(rows)[0].count;
}

/** Attempts of the row r that a deployer left: those told so, and the open one of a lease that ran out. */
const LEFT_BY = `(
  select count(*)::integer from osp_metadata.deployment_attempts as a
  where a.deployment_id = r.id and (a.outcome = 'abandoned' or a.ended_at is null)
)`;

/** Of the requests that a platform allows in an hour, those that may be used before nothing new is begun. */
const SHARE_TO_BEGIN = 0.8;

/**
 * $1 owner, $2 limit, $3 lease in seconds, $4 platform, $5 whether a suspect may be taken. Rows whose lease ran out are
 * claimable like those that wait.
 */
const CLAIM = `
with suspect as (
  -- Only what was left behind can be one, and little ever is.
  select r.id
  from osp_metadata.worker_registry as r
  where r.deployment_status = 'deploying' and r.lease_expires_at <= clock_timestamp() and ${LEFT_BY} >= ${SUSPECT_FROM}
  order by r.created_at, r.id
), waiting as (
  select r.id, r.created_at
  from osp_metadata.worker_registry as r
  where
    (
      (
        r.deployment_status = 'pending'
        and (r.next_attempt_at is null or r.next_attempt_at <= clock_timestamp())
        and not exists (
          select from osp_metadata.worker_registry as o
          where o.service_schema = r.service_schema and o.deployment_status = 'deploying'
        )
      )
      or (
        r.deployment_status = 'deploying' and r.lease_expires_at <= clock_timestamp()
        and (
          not exists (select from suspect as s where s.id = r.id)
          or ($5 and r.id = (select s.id from suspect as s limit 1))
        )
      )
    )
    and not exists (
      select from osp_metadata.platforms as p
      where p.name = $4 and (
        p.paused_at is not null
        or p.throttled_until > clock_timestamp()
        -- The last of the hour's requests are for what is under way, and for stops.
        or (
          p.window_started_at > clock_timestamp() - interval '1 hour'
          and p.window_requests >= p.window_quota * case when r.manifest is null then 1.0 else ${SHARE_TO_BEGIN} end
        )
      )
    )
  order by r.created_at, r.id
  limit $2  -- a number that the planner knows
  for update skip locked
), candidates as (
  -- In one statement with the claim: the slots stay ours until it is committed.
  select w.id from waiting as w order by w.created_at, w.id limit osp_metadata.free_slots($4)
), abandoned as (
  update osp_metadata.deployment_attempts as a
  set ended_at = clock_timestamp(), outcome = 'abandoned', error_message = 'Deployer ' || a.deployer || ' went away'
  from candidates as c
  where a.deployment_id = c.id and a.ended_at is null
  returning a.deployment_id, a.deployer
), claimed as (
  update osp_metadata.worker_registry as r
  set
    deployment_status = 'deploying',
    started_at = coalesce(r.started_at, clock_timestamp()),
    next_attempt_at = null,
    lease_owner = $1,
    lease_token = gen_random_uuid(),
    lease_expires_at = clock_timestamp() + make_interval(secs => $3),
    platform = $4,
    logs = osp_metadata.append_log(r.logs, coalesce(
      (select 'claimed by ' || $1 || ': deployer ' || a.deployer || ' went away' from abandoned as a where a.deployment_id = r.id limit 1),
      'claimed by ' || $1
    ))
  from candidates as c
  where r.id = c.id
  returning r.*
), begun as (
  insert into osp_metadata.deployment_attempts (deployment_id, service_schema, revision, attempt, deployer)
  select c.id, c.service_schema, c.revision, 1 + (
    select count(*) from osp_metadata.deployment_attempts as a where a.deployment_id = c.id and a.outcome in ${COUNTED}
  ), $1
  from claimed as c
  returning id, deployment_id, attempt
)
select
  c.id, c.service_schema, c.revision, c.source, c.manifest::text as manifest, c.manifest_sha256, c.manifest_path, c.lease_token,
  coalesce(c.platform_service_id, (
    select o.platform_service_id from osp_metadata.worker_registry as o
    where o.service_schema = c.service_schema and o.platform = $4 and o.platform_service_id is not null and o.revision < c.revision
    order by o.revision desc
    limit 1
  )) as known_service_id,
  c.platform_deployment_id as known_deployment_id,
  array(
    select a.rejected_deployment_id from osp_metadata.deployment_attempts as a
    where a.deployment_id = c.id and a.rejected_deployment_id is not null
  ) as rejected_deployment_ids,
  exists (
    select from osp_metadata.worker_registry as o
    where o.service_schema = c.service_schema and o.platform = $4 and o.deployed_at is not null
  ) as has_served,
  c.manifest is not null and c.stop_requested_at is not null as is_superseded,
  b.id::text as attempt_id, b.attempt,
  (
    select count(*)::integer from osp_metadata.deployment_attempts as a
    where a.deployment_id = c.id and a.outcome = 'deferred' and a.id > coalesce((
      select max(other.id) from osp_metadata.deployment_attempts as other
      where other.deployment_id = c.id and other.outcome <> 'deferred'
    ), 0)
  ) as deferrals,
  (
    select count(*) from osp_metadata.deployment_attempts as a where a.deployment_id = c.id and a.outcome = 'abandoned'
  )::integer + (select count(*) from abandoned as a where a.deployment_id = c.id)::integer as abandoned
from claimed as c
inner join begun as b on b.deployment_id = c.id
order by c.created_at, c.id`;

/** $1 tokens, $2 lease in seconds. Locks in the order in which deployments are enqueued and superseded: no deadlock. */
const RENEW = `
with held as materialized (
  select r.id
  from osp_metadata.worker_registry as r
  where r.lease_token = any ($1::uuid[]) and r.deployment_status = 'deploying'
  order by r.service_schema, r.revision
  for update
)
update osp_metadata.worker_registry as r
set lease_expires_at = clock_timestamp() + make_interval(secs => $2)
from held
where r.id = held.id
returning r.lease_token, r.manifest is not null and r.stop_requested_at is not null as is_superseded`;

/** $1 row, $2 token, $3 attempt, $4 step, $5 line. */
const REPORT = `
with reported as (
  update osp_metadata.worker_registry as r
  set logs = osp_metadata.append_log(r.logs, $5)
  where r.id = $1 and r.lease_token = $2
  returning r.id
)
update osp_metadata.deployment_attempts as a
set step = $4
from reported
where a.id = $3::bigint and a.deployment_id = reported.id and a.ended_at is null`;

/** $1 row, $2 token, $3 service, $4 deployment; null leaves what is there. */
const REMEMBER = `
update osp_metadata.worker_registry as r
set
  platform_service_id = coalesce($3, r.platform_service_id),
  platform_deployment_id = coalesce($4, r.platform_deployment_id)
where r.id = $1 and r.lease_token = $2 and r.deployment_status = 'deploying'`;

/** $1 row. */
const IS_OPEN = `
select from osp_metadata.worker_registry as r
where r.id = $1 and r.deployment_status in ('pending', 'deploying') and (r.manifest is null or r.stop_requested_at is null)`;
