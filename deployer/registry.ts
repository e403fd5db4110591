import { z } from "zod";
import { type Claim, readClaims, type UnreadableClaim } from "./claim.ts";
import { CLAIM } from "./claim-statement.ts";
import type { Settlement } from "./outcome.ts";
import { createLockWaits } from "./lock-waits.ts";
import { type ClaimKeys, unlocked } from "./registry-writes.ts";
import { createReports } from "./report.ts";
import { createSettlements, type Settle } from "./settle.ts";
import { createStatements, type Queryable } from "./statements.ts";
import { createUpkeep, type Upkeep } from "./upkeep.ts";

const renewalSchema = z.object({ lease_token: z.string(), is_superseded: z.boolean() });
export type Renewal = z.infer<typeof renewalSchema>;

/** All SQL of the deployer. Only the database's clock counts, and only the lease token decides who may write. */
export interface Registry extends Upkeep {
  /**
   * Takes what waits, oldest first, and what a deployer left whose lease ran out. Of rows that several deployers died with
   * at most one, and none unless `takesSuspect`: it must not take others along again.
   */
  claim(limit: number, takesSuspect?: boolean): Promise<Claim[]>;
  /** Milliseconds until the next lease runs out, of whichever deployer; not above 0 where one has. Undefined: there is none. */
  nextExpiryMs(): Promise<number | undefined>;
  /** Prolongs leases. A token that is not in the answer has been lost, or somebody has its row locked: `renewAlone` tells. */
  renew(tokens: string[]): Promise<Renewal[]>;
  /** Prolongs a lease, and waits a moment for its row. Undefined: it has been lost. @throws also where the row stays locked */
  renewAlone(token: string): Promise<Renewal | undefined>;
  /** Records how far an attempt has come. False: the lease was lost, nothing is written. */
  report(claim: Claim, step: string, line: string): Promise<boolean>;
  /** Persists ids of the platform; what is left out stays. False: the lease was lost; then nothing may be changed any more. */
  remember(claim: Claim, ids: { serviceId?: string | undefined; deploymentId?: string | undefined }): Promise<boolean>;
  /** Whether it is still to come about: it waits or somebody deploys it, and no newer revision replaces it. */
  isOpen(claim: Claim): Promise<boolean>;
  /** Whether an older revision of the service had code of its own. */
  hadOwnCode(claim: Claim): Promise<boolean>;
  /**
   * Ends an attempt. False: the lease was lost, nothing is written. Where the database is away for a moment it is tried
   * again for as long as a lease lasts.
   */
  settle(claim: Claim, settlement: Settlement): Promise<boolean>;
  platformInstance(): Promise<string>;
}

export interface RegistrySettings {
  owner: string;
  platform: string;
  leaseSeconds: number;
  /** How long a renewal may take. */
  renewTimeoutMs: number;
  /** Told of each claim that cannot be read; it is settled already. */
  onUnreadable?: (claim: UnreadableClaim) => void;
}

/** A row that somebody keeps locked must not hold up the next renewal. */
const RENEW_LOCK_TIMEOUT_MS = 1000;

/** @param renewals where leases are renewed: of its own where other statements may wait long for a connection of the pool */
export function createRegistry(pool: Queryable, settings: RegistrySettings, renewals: Queryable = pool): Registry {
  const { owner, platform, leaseSeconds } = settings;
  const run = createStatements(pool);
  const isEnding = () => pool.ending === true;
  const waiting = createLockWaits(leaseSeconds, isEnding);
  const report = createReports(run, waiting);
  const begun = new WeakSet<ClaimKeys>();
  const begin = async (claim: ClaimKeys, reached?: { step: string; line: string }) => {
    if (reached === undefined && begun.has(claim)) return true;
    const isHeld = await report({ claim, ...(reached === undefined ? {} : { reached }) });
    if (isHeld) begun.add(claim);
    return isHeld;
  };
  const settle = createSettlements(run, waiting, isEnding, begin);
  const renewBy = createRenewals(renewals, settings);
  return {
    async claim(limit, takesSuspect = true) {
      const { rows } = await run(CLAIM, [owner, limit, leaseSeconds, platform, takesSuspect]);
      const { claims, unreadable } = readClaims(rows);
      await Promise.all(unreadable.map((claim) => giveUp(claim, settle, settings)));
      return claims;
    },
    async nextExpiryMs() {
      const { rows } = await run(NEXT_EXPIRY, []);
      return z.tuple([z.object({ ms: z.number().nullable() })]).parse(rows)[0].ms ?? undefined;
    },
    async renew(tokens) {
      return tokens.length === 0 ? [] : await renewBy(RENEW_UNLOCKED, tokens);
    },
    async renewAlone(token) {
      const [renewal] = await renewBy(RENEW, [token]);
      return renewal;
    },
    report: (claim, step, line) => begin(claim, { step, line }),
    async remember(claim, { serviceId, deploymentId }) {
      const askedAt = performance.now();
      const values = [claim.id, claim.lease_token, serviceId, deploymentId];
      const write = async (statement: string, lockTimeout: string) =>
        (await run(statement, [...values, lockTimeout])).rowCount === 1;
      const isHeld = await write(REMEMBER_UNLOCKED, "0") ||
        await waiting((lockTimeout) => write(REMEMBER, lockTimeout));
      // An answer that a paused process reads after its lease tells of the past.
      return isHeld && performance.now() - askedAt < leaseSeconds * 1000;
    },
    isOpen: async (claim) => (await run(IS_OPEN, [claim.id])).rowCount === 1,
    hadOwnCode: async (claim) => (await run(HAD_OWN_CODE, [claim.service_schema, claim.revision])).rowCount === 1,
    settle: (claim, settlement) => settle(claim, settlement, leaseSeconds),
    ...createUpkeep(run),
    async platformInstance() {
      const { rows } = await run(`select instance from osp_metadata.platforms where name = $1`, [platform]);
      return z.tuple([z.object({ instance: z.string() })]).parse(rows)[0].instance;
    },
  };
}

function createRenewals(connections: Queryable, { leaseSeconds, renewTimeoutMs }: RegistrySettings) {
  const run = createStatements(connections);
  const lockTimeout = `${Math.ceil(Math.min(RENEW_LOCK_TIMEOUT_MS, renewTimeoutMs / 2))}ms`;
  return async (statement: string, tokens: string[]): Promise<Renewal[]> => {
    const { rows } = await run(statement, [tokens, leaseSeconds, lockTimeout], renewTimeoutMs);
    return z.array(renewalSchema).parse(rows);
  };
}

/** Ends a claim that cannot be read: it would be held until its lease ends, and be claimed again for ever. */
async function giveUp(claim: UnreadableClaim, settle: Settle, { onUnreadable }: RegistrySettings): Promise<void> {
  const { service_schema, problem } = claim;
  const message = `The deployer cannot read this deployment: ${problem}. Make a new one: ` +
    `select osp.redeploy('${service_schema}')`;
  const failure = { class: "permanent", code: "claim_unreadable", message, facts: {} } as const;
  try {
    await settle(claim, { outcome: "failed", failure }, 0);
    onUnreadable?.(claim);
  } catch {
    // The database is away: the lease runs out, and whoever claims it then comes here again.
  }
}

const NEXT_EXPIRY = `
select (extract(epoch from min(r.lease_expires_at) - clock_timestamp()) * 1000)::double precision as ms
from osp_metadata.worker_registry as r
where r.deployment_status = 'deploying'`;

/*
 * The statements below find their row by its id or its token alone. Only rows that are being deployed have a token
 * (worker_registry_lease_check); to say so as well would offer the planner indexes of all rows that are being deployed.
 */

/** $1 tokens, $2 lease in seconds, $3 how long a lock is waited for. Locks in the order in which deployments are enqueued and superseded: no deadlock. */
const RENEW = `
with held as materialized (
  select r.id
  from osp_metadata.worker_registry as r
  where r.lease_token = any ($1::uuid[]) and (select set_config('lock_timeout', $3, true)) is not null
  order by r.service_schema, r.revision
  for update of r
)
update osp_metadata.worker_registry as r
set lease_expires_at = clock_timestamp() + make_interval(secs => $2)
from held
where r.id = held.id
returning r.lease_token, r.manifest is not null and r.stop_requested_at is not null as is_superseded`;

const RENEW_UNLOCKED = unlocked(RENEW);

/** $1 row, $2 token, $3 service, $4 deployment; null leaves what is there. $5 how long a lock is waited for. */
const REMEMBER = `
with held as materialized (
  select r.id
  from osp_metadata.worker_registry as r
  where r.id = $1 and r.lease_token = $2 and (select set_config('lock_timeout', $5, true)) is not null
  for update of r
)
update osp_metadata.worker_registry as r
set
  platform_service_id = coalesce($3, r.platform_service_id),
  platform_deployment_id = coalesce($4, r.platform_deployment_id)
from held
where r.id = held.id`;
const REMEMBER_UNLOCKED = unlocked(REMEMBER);

/** Of the last hundred. */
const HAD_OWN_CODE = `
  select 1 from (
    select r.manifest from osp_metadata.worker_registry as r
    where r.service_schema = $1 and r.revision < $2
    order by r.revision desc
    limit 100
  ) as older
  where older.manifest #>> '{options,code}' is not null
  limit 1`;

/** $1 row. */
const IS_OPEN = `
select from osp_metadata.worker_registry as r
where r.id = $1 and r.deployment_status in ('pending', 'deploying') and (r.manifest is null or r.stop_requested_at is null)`;
