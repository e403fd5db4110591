import type { Pool } from "pg";
import { z } from "zod";
import { createLockWaits } from "./lock-waits.ts";

/** What all deployers of a database share about their platform: whether it is paused, and how much of it is used. */
export interface PlatformState {
  /** Says how many requests an hour are allowed from now on; what waits for the next hour goes on when they are more. */
  allowRequests(quota: number): Promise<void>;
  /** Counts requests that are about to be made. */
  takeRequests(count: number, quota: number): Promise<Taken>;
  /** The platform told us to wait: nobody asks it before. */
  throttle(seconds: number): Promise<void>;
  /** Nothing is claimed until `resume`. False: it was paused already. */
  pause(reason: string): Promise<boolean>;
  /** Whether it is this deployer's turn to try if a pause, made by a deployer, can end. */
  takeProbe(everySeconds: number): Promise<boolean>;
  /** Ends a pause that a deployer made. False: there was none. */
  resume(): Promise<boolean>;
}

export type Taken =
  | { isTaken: true; used: number }
  /** `isOurs`: our own budget is used up; else the platform throttles. */
  | { isTaken: false; retryAfterSeconds: number; isOurs: boolean };

const takenRow = z.object({ used: z.int() });
const waitRow = z.object({ budget_seconds: z.number(), throttle_seconds: z.number() });

export function createPlatformState(
  pool: Pool,
  { platform, owner }: { platform: string; owner: string },
): PlatformState {
  const waiting = createLockWaits(PATIENCE_SECONDS, () => pool.ending, MOST_WAITING);
  const write = (statement: string, ...values: unknown[]) =>
    waiting((lockTimeout) => pool.query(statement, [platform, lockTimeout, ...values]));
  return {
    async allowRequests(quota) {
      await write(ALLOW_REQUESTS, quota);
    },
    async takeRequests(count, quota) {
      const { rows: [taken] } = await write(TAKE_REQUESTS, count, quota);
      if (taken !== undefined) return { isTaken: true, used: takenRow.parse(taken).used };
      const { rows: [row] } = await pool.query(WAIT, [platform]);
      const { budget_seconds, throttle_seconds } = waitRow.parse(row);
      const isOurs = throttle_seconds <= 0;
      return { isTaken: false, retryAfterSeconds: Math.max(1, isOurs ? budget_seconds : throttle_seconds), isOurs };
    },
    async throttle(seconds) {
      await write(THROTTLE, seconds);
    },
    pause: async (reason) => (await write(PAUSE, owner, reason)).rowCount === 1,
    takeProbe: async (everySeconds) => (await write(TAKE_PROBE, everySeconds)).rowCount === 1,
    resume: async () => (await write(RESUME)).rowCount === 1,
  };
}

/** A row that a person keeps locked is everybody's: all that wait for it have one connection of the pool. */
const MOST_WAITING = 1;
const PATIENCE_SECONDS = 10;

/** Of the statement below, before it locks anything. */
const LIMITED = `(select set_config('lock_timeout', $2, true)) is not null`;

/** $1 platform, $2 how long a lock is waited for, $3 quota. What somebody has locked waits for its hour. */
const ALLOW_REQUESTS = `
with before as materialized (
  select p.name, p.window_quota from osp_metadata.platforms as p where p.name = $1 and ${LIMITED} for update
), put_off as materialized (
  select r.id
  from osp_metadata.worker_registry as r
  cross join before
  where
    r.deployment_status = 'pending' and r.platform = $1 and r.error_code = 'request_budget_used_up'
    and before.window_quota < $3
  order by r.service_schema, r.revision
  for update of r skip locked
), allowed as (
  update osp_metadata.platforms as p
  set window_quota = $3
  from before
  where p.name = before.name
)
update osp_metadata.worker_registry as r
set next_attempt_at = null
from put_off
where r.id = put_off.id`;

/** An hour that has passed counts nothing. */
const IS_OVER = `(p.window_started_at is null or p.window_started_at <= clock_timestamp() - interval '1 hour')`;

/** $1 platform, $2 how long a lock is waited for, $3 requests, $4 quota. One statement on one row: deployers that ask at once are counted in turn. */
const TAKE_REQUESTS = `
update osp_metadata.platforms as p
set
  window_started_at = case when ${IS_OVER} then clock_timestamp() else p.window_started_at end,
  window_requests = case when ${IS_OVER} then 0 else p.window_requests end + $3,
  window_quota = $4
where
  p.name = $1 and ${LIMITED}
  and case when ${IS_OVER} then 0 else p.window_requests end + $3 <= $4
  and (p.throttled_until is null or p.throttled_until <= clock_timestamp())
returning p.window_requests as used`;

/** $1 platform. */
const WAIT = `
select
  coalesce(extract(epoch from p.window_started_at + interval '1 hour' - clock_timestamp()), 0)::float8 as budget_seconds,
  coalesce(extract(epoch from p.throttled_until - clock_timestamp()), 0)::float8 as throttle_seconds
from osp_metadata.platforms as p
where p.name = $1`;

/** $1 platform, $2 how long a lock is waited for, $3 seconds. A later answer of the same burst may name less: the longest counts. */
const THROTTLE = `
update osp_metadata.platforms as p
set throttled_until = greatest(p.throttled_until, clock_timestamp() + make_interval(secs => $3))
where p.name = $1 and ${LIMITED}`;

/** $1 platform, $2 how long a lock is waited for, $3 deployer, $4 reason. */
const PAUSE = `
update osp_metadata.platforms as p
set paused_at = clock_timestamp(), paused_by = $3, pause_reason = $4, probed_at = clock_timestamp()
where p.name = $1 and p.paused_at is null and ${LIMITED}`;

/** $1 platform, $2 how long a lock is waited for, $3 seconds. A person's pause is not ours to end. */
const TAKE_PROBE = `
update osp_metadata.platforms as p
set probed_at = clock_timestamp()
where
  p.name = $1 and p.paused_at is not null and p.paused_by is not null and ${LIMITED}
  and (p.probed_at is null or p.probed_at <= clock_timestamp() - make_interval(secs => $3))`;

/** $1 platform, $2 how long a lock is waited for. Every deployer is told that there is work again. */
const RESUME = `
with resumed as (
  update osp_metadata.platforms as p
  set paused_at = null, paused_by = null, pause_reason = null
  where p.name = $1 and p.paused_at is not null and p.paused_by is not null and ${LIMITED}
  returning p.name
)
select name, pg_notify('worker_registry', '') from resumed`;
