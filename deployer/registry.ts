import { setTimeout as pause } from "node:timers/promises";
import type { Pool } from "pg";
import { z } from "zod";
import { type Claim, readClaims, SUSPECT_FROM, type UnreadableClaim } from "./claim.ts";
import type { Settlement } from "./outcome.ts";
import { within } from "./connection.ts";
import { settlementJson } from "./settlement.ts";
import { storable } from "../supabase/functions/_shared/problems.ts";

const renewalSchema = z.object({ lease_token: z.string(), is_superseded: z.boolean() });
export type Renewal = z.infer<typeof renewalSchema>;

/** Attempts that use up one of the allowed. */
const COUNTED = `('deployed', 'stopped', 'superseded', 'retry', 'failed')`;

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
  /**
   * Ends an attempt. False: the lease was lost, nothing is written. Where the database is away for a moment it is tried
   * again for as long as a lease lasts.
   */
  settle(claim: Claim, settlement: Settlement): Promise<boolean>;
  countWaitingIntents(olderThanSeconds: number): Promise<number>;
  reconcile(): Promise<number>;
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
    settle: (claim, settlement) => settle(claim, settlement, pool, leaseSeconds),
    async countWaitingIntents(olderThanSeconds) {
      return count(await pool.query(`select osp_metadata.count_waiting_intents($1) as count`, [olderThanSeconds]));
    },
    async reconcile() {
      return count(await pool.query(`select osp_metadata.reconcile() as count`));
    },
    async platformInstance() {
      const { rows } = await pool.query(`select instance from osp_metadata.platforms where name = $1`, [platform]);
      return z.tuple([z.object({ instance: z.string() })]).parse(rows)[0].instance;
    },
  };
}

type SettledClaim = Pick<Claim, "id" | "lease_token" | "attempt_id" | "attempt">;

const SETTLE_AGAIN_MS = 200;

/** @throws the last error; then whoever claims the row next finds the attempt open */
async function settle(claim: SettledClaim, settlement: Settlement, pool: Pool, forSeconds: number): Promise<boolean> {
  const columns = settlementJson(claim.attempt, settlement);
  const parameters = [claim.id, claim.lease_token, claim.attempt_id, columns];
  const deadline = performance.now() + forSeconds * 1000;
  for (;;) {
    try {
      return (await pool.query(SETTLE, parameters)).rowCount === 1;
    } catch (error) {
      if (!mayPass(error) || pool.ending || performance.now() >= deadline) throw error;
      await pause(SETTLE_AGAIN_MS);
    }
  }
}

/**
 * Whether a statement may go better next time: a restart, a cut connection, a time limit. Not what is wrong with the
 * statement itself, but for a newer revision that became pending while it waited for its row: with a new snapshot it sees that.
 */
function mayPass(error: unknown): boolean {
  const code = error instanceof Error && "code" in error ? String(error.code) : "";
  return code === UNIQUE_VIOLATION || !/^(22|23|42)...$/.test(code);
}

const UNIQUE_VIOLATION = "23505";

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
    and not exists (select from osp_metadata.platforms as p where p.name = $4 and p.paused_at is not null)
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

/** $1 row, $2 token, $3 attempt, $4 what is written. One statement: the row, its attempt and what it replaces end together. */
const SETTLE = `
with s as (
  select * from jsonb_to_record($4::jsonb) as s (
    outcome text, status text, delay_seconds double precision, error_class text, error_code text, error_message text,
    exit_code integer, log_tail text, worker_version text, platform_service_id text, platform_deployment_id text, line text
  )
), target as (
  select
    r.id,
    -- A newer revision waits: this one is not tried again.
    s.status = 'pending' and (
      (r.manifest is not null and r.stop_requested_at is not null)
      or exists (
        select from osp_metadata.worker_registry as n
        where n.service_schema = r.service_schema and n.deployment_status = 'pending' and n.revision > r.revision
      )
    ) as is_replaced
  from osp_metadata.worker_registry as r
  cross join s
  where r.id = $1 and r.lease_token = $2 and r.deployment_status = 'deploying'
  for update of r
), settled as (
  update osp_metadata.worker_registry as r
  set
    deployment_status = case when target.is_replaced then 'stopped' else s.status end,
    deployed_at = case when s.status = 'deployed' then clock_timestamp() end,
    last_health_check = case when s.status = 'deployed' then clock_timestamp() end,
    stopped_at = case when s.status = 'stopped' or target.is_replaced then clock_timestamp() end,
    next_attempt_at = case
      when s.status = 'pending' and not target.is_replaced then clock_timestamp() + make_interval(secs => coalesce(s.delay_seconds, 0))
    end,
    worker_version = coalesce(s.worker_version, r.worker_version),
    platform_service_id = coalesce(s.platform_service_id, r.platform_service_id),
    platform_deployment_id = coalesce(s.platform_deployment_id, r.platform_deployment_id),
    error_code = s.error_code,
    error_message = s.error_message,
    retry_count = greatest((
      select count(*) from osp_metadata.deployment_attempts as a where a.deployment_id = r.id and a.outcome in ${COUNTED}
    ) + case when s.outcome in ${COUNTED} then 1 else 0 end - 1, 0),
    lease_owner = null,
    lease_token = null,
    lease_expires_at = null,
    logs = osp_metadata.append_log(r.logs, s.line)
  from s, target
  where r.id = target.id
  returning r.id, r.service_schema, r.revision, r.deployment_status, r.manifest is null as wanted_stop
), attempt as (
  update osp_metadata.deployment_attempts as a
  set
    ended_at = clock_timestamp(), outcome = s.outcome, error_class = s.error_class, error_code = s.error_code,
    error_message = s.error_message, exit_code = s.exit_code, log_tail = right(s.log_tail, 16384)
  from s, settled
  where a.id = $3::bigint and a.deployment_id = settled.id and a.ended_at is null
), older as (
  update osp_metadata.worker_registry as r
  set
    deployment_status = 'stopped',
    stopped_at = clock_timestamp(),
    logs = osp_metadata.append_log(r.logs, case when settled.wanted_stop then 'stopped' else 'replaced' end || ' by revision ' || settled.revision)
  from settled, s
  where
    r.service_schema = settled.service_schema and r.deployment_status = 'deployed' and r.revision < settled.revision
    and s.outcome in ('deployed', 'stopped')
)
-- Who waited for this service to be free may go on.
select settled.id, pg_notify('worker_registry', '') from settled`;
