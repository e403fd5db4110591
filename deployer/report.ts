import { createBatcher } from "./batcher.ts";
import type { RunWaiting } from "./lock-waits.ts";
import { type ClaimKeys, keysOf, unlocked, writesJson, writtenIds } from "./registry-writes.ts";
import type { RunStatement } from "./statements.ts";

interface Report {
  claim: ClaimKeys;
  /** Left out: it only begins, if it has not. */
  reached?: {
    step: string;
    /** For the logs of the row. */
    line: string;
  };
}

/**
 * Records how far attempts have come, those of one moment together; the first one of an attempt begins it. False: the lease was lost,
 * nothing is written.
 */
export function createReports(run: RunStatement, waiting: RunWaiting): (report: Report) => Promise<boolean> {
  const send = async (statement: string, lockTimeout: string, reports: Report[]) =>
    writtenIds(await run(statement, [writesJson(reports.map(columnsOf)), lockTimeout]));
  return createBatcher({
    keyOf: ({ claim }) => claim.id,
    sendTogether: (reports) => send(REPORT_UNLOCKED, LOCK_TIMEOUT_TOGETHER, reports),
    sendAlone: (report) => waiting(async (lockTimeout) => (await send(REPORT, lockTimeout, [report])).size === 1),
  });
}

function columnsOf({ claim, reached }: Report) {
  return { ...keysOf(claim), ...reached };
}

/** A locked row is skipped; this is for a locked attempt. */
const LOCK_TIMEOUT_TOGETHER = "500ms";

/** $1 reports, a JSON array, $2 how long a lock is waited for. Locks as RENEW does. */
const REPORT = `
with given as (
  select * from jsonb_to_recordset($1::jsonb) as g (id uuid, lease_token uuid, step text, line text)
), held as materialized (
  select
    r.id, r.attempt_id, r.lease_owner, r.logs, g.step, g.line,
    r.attempt_id is null and r.started_at = r.claimed_at as is_first  -- what its first claim left out
  from given as g
  inner join osp_metadata.worker_registry as r on r.id = g.id and r.lease_token is not distinct from g.lease_token
  where (select set_config('lock_timeout', $2, true)) is not null
  order by r.service_schema, r.revision
  for update of r
), reached as (
  update osp_metadata.deployment_attempts as a
  set step = held.step
  from held
  where a.id = held.attempt_id and a.deployment_id = held.id and a.ended_at is null and a.step <> held.step
)
update osp_metadata.worker_registry as r
set
  attempt_id = coalesce(r.attempt_id, osp_metadata.begin_attempt(r.id, r.lease_token, coalesce(held.step, 'claimed'))),
  logs = case when held.line is null then claimed.logs else osp_metadata.append_log(claimed.logs, held.line) end
from held
cross join lateral (
  select case
    when held.is_first then osp_metadata.append_log(held.logs, 'claimed by ' || held.lease_owner) else held.logs
  end as logs
) as claimed
where r.id = held.id
returning r.id`;
const REPORT_UNLOCKED = unlocked(REPORT);
