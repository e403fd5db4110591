import { z } from "zod";
import { createBatcher } from "./batcher.ts";
import type { Settlement } from "./outcome.ts";
import { settlementColumns } from "./settlement.ts";
import type { RunStatement } from "./statements.ts";

// What attempts write while they go on and when they end, many in one statement.

/** Which row and which attempt, with the right to write to them. */
interface ClaimKeys {
  id: string;
  lease_token: string;
  attempt_id: string;
  /** Its number. */
  attempt: number;
}

interface Report {
  claim: ClaimKeys;
  step: string;
  line: string;
}

/** Records how far attempts have come. False: the lease was lost, nothing is written. */
export function createReports(run: RunStatement): (report: Report) => Promise<boolean> {
  const send = (statement: string, reports: Report[]) =>
    idsOf(run(statement, [JSON.stringify(reports.map(({ claim, step, line }) => ({ ...keysOf(claim), step, line })))]));
  return createBatcher({
    keyOf: ({ claim }) => claim.id,
    sendTogether: (reports) => send(REPORT_UNLOCKED, reports),
    sendAlone: async (report) => (await send(REPORT, [report])).size === 1,
  });
}

interface ClaimSettlement {
  claim: ClaimKeys;
  settlement: Settlement;
}

/** Ends attempts. False: the lease was lost, nothing is written. */
export function createSettlements(run: RunStatement): (settlement: ClaimSettlement) => Promise<boolean> {
  const send = (statement: string, lockTimeout: string, settlements: ClaimSettlement[]) => {
    const columns = settlements.map(({ claim, settlement }) => ({
      ...keysOf(claim),
      ...settlementColumns(claim.attempt, settlement),
    }));
    return idsOf(run(statement, [JSON.stringify(columns), lockTimeout]));
  };
  const sendAlone = async (settlement: ClaimSettlement) => (await send(SETTLE, "0", [settlement])).size === 1;
  return createBatcher({
    keyOf: ({ claim }) => claim.id,
    sendTogether: (settlements) => send(SETTLE_UNLOCKED, "500ms", settlements),
    async sendAlone(settlement) {
      try {
        return await sendAlone(settlement);
      } catch (error) {
        // A newer revision became pending while this statement waited for its row: with a new snapshot it sees that.
        if (!isUniqueViolation(error)) throw error;
        return await sendAlone(settlement);
      }
    },
  });
}

function keysOf({ id, lease_token, attempt_id }: ClaimKeys) {
  return { id, lease_token, attempt_id };
}

/** Of the rows that were written, each with `true`. */
async function idsOf(answer: Promise<{ rows: unknown[] }>): Promise<Map<string, true>> {
  return new Map(z.array(z.object({ id: z.string() })).parse((await answer).rows).map(({ id }) => [id, true]));
}

function isUniqueViolation(error: unknown): boolean {
  return error instanceof Error && "code" in error && error.code === "23505";
}

/** Attempts that use up one of the allowed. */
export const COUNTED = `('deployed', 'stopped', 'superseded', 'retry', 'failed')`;

/** The same for the rows that nobody else has locked: many that go together must not wait for one. */
const unlocked = (statement: string) => statement.replace("for update of r", "for update of r skip locked");

/** $1 reports, a JSON array. Locks as RENEW does. */
const REPORT = `
with given as (
  select * from jsonb_to_recordset($1::jsonb) as g (id uuid, lease_token uuid, attempt_id bigint, step text, line text)
), held as materialized (
  select r.id, g.attempt_id, g.step, g.line
  from given as g
  inner join osp_metadata.worker_registry as r on r.id = g.id and r.lease_token = g.lease_token
  order by r.service_schema, r.revision
  for update of r
), reached as (
  update osp_metadata.deployment_attempts as a
  set step = held.step
  from held
  where a.id = held.attempt_id and a.deployment_id = held.id and a.ended_at is null
)
update osp_metadata.worker_registry as r
set logs = osp_metadata.append_log(r.logs, held.line)
from held
where r.id = held.id
returning r.id`;
const REPORT_UNLOCKED = unlocked(REPORT);

/**
 * $1 settlements, a JSON array, $2 how long a lock is waited for. One statement: a row, its attempt and what it replaces end
 * together. Locks as RENEW does, and then what is replaced: that cannot be skipped.
 */
const SETTLE = `
with s as (
  select * from jsonb_to_recordset($1::jsonb) as s (
    id uuid, lease_token uuid, attempt_id bigint,
    outcome text, status text, delay_seconds double precision, error_class text, error_code text, error_message text,
    exit_code integer, log_tail text, worker_version text, platform_service_id text, platform_deployment_id text, line text
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
  inner join osp_metadata.worker_registry as r on r.id = s.id and r.lease_token = s.lease_token
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
  returning r.id, r.service_schema, r.revision, r.deployment_status, r.manifest is null as wanted_stop
), attempt as (
  update osp_metadata.deployment_attempts as a
  set
    ended_at = clock_timestamp(), outcome = s.outcome, error_class = s.error_class, error_code = s.error_code,
    error_message = s.error_message, exit_code = s.exit_code, log_tail = right(s.log_tail, 16384)
  from s
  inner join settled on settled.id = s.id
  where a.id = s.attempt_id and a.deployment_id = s.id and a.ended_at is null
), older as (
  update osp_metadata.worker_registry as r
  set
    deployment_status = 'stopped',
    stopped_at = clock_timestamp(),
    logs = osp_metadata.append_log(r.logs, case when settled.wanted_stop then 'stopped' else 'replaced' end || ' by revision ' || settled.revision)
  from settled
  inner join s on s.id = settled.id
  where
    r.service_schema = settled.service_schema and r.deployment_status = 'deployed' and r.revision < settled.revision
    and s.outcome in ('deployed', 'stopped')
)
-- Who waited for this service to be free may go on.
select settled.id, pg_notify('worker_registry', '') from settled`;
const SETTLE_UNLOCKED = unlocked(SETTLE);
