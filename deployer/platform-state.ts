import type { Pool } from "pg";
import { z } from "zod";

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
  return {
    async allowRequests(quota) {
      await pool.query(ALLOW_REQUESTS, [platform, quota]);
    },
    async takeRequests(count, quota) {
      const { rows: [taken] } = await pool.query(TAKE_REQUESTS, [platform, count, quota]);
      if (taken !== undefined) return { isTaken: true, used: takenRow.parse(taken).used };
      const { rows: [row] } = await pool.query(WAIT, [platform]);
      const { budget_seconds, throttle_seconds } = waitRow.parse(row);
      const isOurs = throttle_seconds <= 0;
      return { isTaken: false, retryAfterSeconds: Math.max(1, isOurs ? budget_seconds : throttle_seconds), isOurs };
    },
    async throttle(seconds) {
      await pool.query(THROTTLE, [platform, seconds]);
    },
    pause: async (reason) => (await pool.query(PAUSE, [platform, owner, reason])).rowCount === 1,
    takeProbe: async (everySeconds) => (await pool.query(TAKE_PROBE, [platform, everySeconds])).rowCount === 1,
    resume: async () => (await pool.query(RESUME, [platform])).rowCount === 1,
  };
}

/** $1 platform, $2 quota. */
const ALLOW_REQUESTS = `
with before as (
  select p.name, p.window_quota from osp_metadata.platforms as p where p.name = $1 for update
), allowed as (
  update osp_metadata.platforms as p
  set window_quota = $2
  from before
  where p.name = before.name
)
update osp_metadata.worker_registry as r
set next_attempt_at = null
from before
where
  r.deployment_status = 'pending' and r.platform = $1 and r.error_code = 'request_budget_used_up'
  and before.window_quota < $2`;

/** An hour that has passed counts nothing. */
const IS_OVER = `(p.window_started_at is null or p.window_started_at <= clock_timestamp() - interval '1 hour')`;

/** $1 platform, $2 requests, $3 quota. One statement on one row: deployers that ask at once are counted in turn. */
const TAKE_REQUESTS = `
update osp_metadata.platforms as p
set
  window_started_at = case when ${IS_OVER} then clock_timestamp() else p.window_started_at end,
  window_requests = case when ${IS_OVER} then 0 else p.window_requests end + $2,
  window_quota = $3
where
  p.name = $1
  and case when ${IS_OVER} then 0 else p.window_requests end + $2 <= $3
  and (p.throttled_until is null or p.throttled_until <= clock_timestamp())
returning p.window_requests as used`;

/** $1 platform. */
const WAIT = `
select
  coalesce(extract(epoch from p.window_started_at + interval '1 hour' - clock_timestamp()), 0)::float8 as budget_seconds,
  coalesce(extract(epoch from p.throttled_until - clock_timestamp()), 0)::float8 as throttle_seconds
from osp_metadata.platforms as p
where p.name = $1`;

/** $1 platform, $2 seconds. A later answer of the same burst may name less: the longest counts. */
const THROTTLE = `
update osp_metadata.platforms as p
set throttled_until = greatest(p.throttled_until, clock_timestamp() + make_interval(secs => $2))
where p.name = $1`;

/** $1 platform, $2 deployer, $3 reason. */
const PAUSE = `
update osp_metadata.platforms as p
set paused_at = clock_timestamp(), paused_by = $2, pause_reason = $3, probed_at = clock_timestamp()
where p.name = $1 and p.paused_at is null`;

/** $1 platform, $2 seconds. A person's pause is not ours to end. */
const TAKE_PROBE = `
update osp_metadata.platforms as p
set probed_at = clock_timestamp()
where
  p.name = $1 and p.paused_at is not null and p.paused_by is not null
  and (p.probed_at is null or p.probed_at <= clock_timestamp() - make_interval(secs => $2))`;

/** $1 platform. Every deployer is told that there is work again. */
const RESUME = `
with resumed as (
  update osp_metadata.platforms as p
  set paused_at = null, paused_by = null, pause_reason = null
  where p.name = $1 and p.paused_at is not null and p.paused_by is not null
  returning p.name
)
select name, pg_notify('worker_registry', '') from resumed`;
