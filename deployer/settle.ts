import { setTimeout as pause } from "node:timers/promises";
import { createBatcher } from "./batcher.ts";
import type { RunWaiting } from "./lock-waits.ts";
import type { Settlement } from "./outcome.ts";
import { type ClaimKeys, keysOf, unlocked, writesJson, writtenIds } from "./registry-writes.ts";
import { settlementColumns } from "./settlement.ts";
import type { RunStatement } from "./statements.ts";

/** Attempts that use up one of the allowed. */
const COUNTED = `('deployed', 'stopped', 'superseded', 'retry', 'failed')`;

type SettledClaim = ClaimKeys & {
  /** Its number. */
  attempt: number;
};

/**
 * Ends an attempt; false: the lease was lost, nothing is written. Tried again for so long, whatever may pass by itself.
 *
 * @throws the last error; then whoever claims the row next finds the attempt open
 */
export type Settle = (claim: SettledClaim, settlement: Settlement, forSeconds: number) => Promise<boolean>;

const SETTLE_AGAIN_MS = 200;
/** What is replaced is locked too, by whoever holds it: many that go together do not wait long for that, each alone does. */
const LOCK_TIMEOUT_TOGETHER = "500ms";

/**
 * Ends attempts, those of one moment together.
 *
 * @param begin an attempt that nothing was reported of is not written down yet; false: the lease was lost
 */
export function createSettlements(
  run: RunStatement,
  waiting: RunWaiting,
  isEnding: () => boolean,
  begin: (claim: ClaimKeys) => Promise<boolean>,
): Settle {
  const send = async (statement: string, lockTimeout: string, settlements: ClaimSettlement[]) =>
    writtenIds(await run(statement, [writesJson(settlements.map(columnsOf)), lockTimeout]));
  const settleOnce = createBatcher<ClaimSettlement, boolean>({
    keyOf: ({ claim }) => claim.id,
    sendTogether: (settlements) => send(SETTLE_UNLOCKED, LOCK_TIMEOUT_TOGETHER, settlements),
    sendAlone: (settlement) =>
      waiting(async (lockTimeout) => (await send(SETTLE, lockTimeout, [settlement])).size === 1),
  });
  return async (claim, settlement, forSeconds) => {
    const deadline = performance.now() + forSeconds * 1000;
    for (;;) {
      try {
        return await begin(claim) && await settleOnce({ claim, settlement });
      } catch (error) {
        if (!mayPass(error) || isEnding() || performance.now() >= deadline) throw error;
        await pause(SETTLE_AGAIN_MS);
      }
    }
  };
}

interface ClaimSettlement {
  claim: SettledClaim;
  settlement: Settlement;
}

function columnsOf({ claim, settlement }: ClaimSettlement) {
  return { ...keysOf(claim), ...settlementColumns(claim.attempt, settlement) };
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

/**
 * $1 settlements, a JSON array, $2 how long a lock is waited for. One statement: a row, its attempt and what it replaces end
 * together. Locks as RENEW does, and then what is replaced: that cannot be skipped.
 */
const SETTLE = `
with s as (
  select * from jsonb_to_recordset($1::jsonb) as s (
    id uuid, lease_token uuid,
    outcome text, status text, delay_seconds double precision, error_class text, error_code text, error_message text,
    exit_code integer, log_tail text, worker_version text, platform_service_id text, platform_deployment_id text, line text,
    rejected_deployment_id text, has_replaced boolean
  )
), target as materialized (
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
  from s
  inner join osp_metadata.worker_registry as r on r.id = s.id and r.lease_token is not distinct from s.lease_token
  where (select set_config('lock_timeout', $2, true)) is not null
  order by r.service_schema, r.revision
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
  from s
  inner join target on target.id = s.id
  where r.id = target.id
  returning r.id, r.service_schema, r.revision, r.attempt_id, r.deployment_status, r.manifest is null as wanted_stop
), attempt as (
  update osp_metadata.deployment_attempts as a
  set
    ended_at = clock_timestamp(), outcome = s.outcome, error_class = s.error_class, error_code = s.error_code,
    error_message = s.error_message, exit_code = s.exit_code, log_tail = right(s.log_tail, 16384),
    rejected_deployment_id = s.rejected_deployment_id
  from s
  inner join settled on settled.id = s.id
  where a.id = settled.attempt_id and a.deployment_id = s.id and a.ended_at is null
), left_open as materialized (
  -- Somebody had it locked when the deployment was taken over. Who has it still is not waited for.
  select a.id
  from settled
  inner join osp_metadata.deployment_attempts as a on a.deployment_id = settled.id
  where a.ended_at is null and a.id <> settled.attempt_id
  order by a.id
  for update of a skip locked
), abandoned as (
  update osp_metadata.deployment_attempts as a
  set ended_at = clock_timestamp(), outcome = 'abandoned', error_message = 'Deployer ' || a.deployer || ' went away'
  where a.id = any (array(select l.id from left_open as l))
), older as (
  update osp_metadata.worker_registry as r
  set
    deployment_status = 'stopped',
    stopped_at = clock_timestamp(),
    logs = osp_metadata.append_log(r.logs, case when settled.wanted_stop then 'stopped' else 'replaced' end || ' by revision ' || settled.revision)
  from settled
  inner join s on s.id = settled.id
  where
    r.service_schema = settled.service_schema and r.deployment_status = 'deployed'
    -- "+ 0": found by status and service, and not by reading every older revision, which looked as cheap now and then.
    and r.revision + 0 < settled.revision
    -- Or the platform had ended it for the sake of one that then failed.
    and (s.outcome in ('deployed', 'stopped') or s.has_replaced)
)
-- Who waited for this service to be free may go on.
select settled.id, pg_notify('worker_registry', '') from settled`;
const SETTLE_UNLOCKED = unlocked(SETTLE);
