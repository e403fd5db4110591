import { hostname } from "node:os";
import { setTimeout as pause } from "node:timers/promises";
import type { Logger } from "pino";
import type { Client } from "pg";
import { z } from "zod";
import { formatError } from "../supabase/functions/_shared/problems.ts";
import { openConnection, within } from "./connection.ts";
import { isLocked } from "./lock-waits.ts";
import { StartError } from "./start-error.ts";

/** The right to look after child processes: one deployer per database has it, the others stand by. */
export interface Supervision {
  /** By the clock as well: whoever was paused for longer than the lease has lost it, before it can know. */
  isHeld(): boolean;
  /** Also while it is still being taken over. Without it nothing may be done to a worker. */
  holdsLock(): boolean;
}

export interface SupervisionSettings {
  connectionString: string;
  /** Platform whose processes are looked after. */
  platform: string;
  /** `<host>:<pid>` of this deployer. */
  owner: string;
  /** Without an answer of the database for so long the right is lost; a holder that hangs for longer is replaced. */
  leaseSeconds: number;
  /** How often the database is asked; less than the lease. */
  renewSeconds: number;
  /** Takes over what an earlier holder left; the right is held from then on. */
  adopt: () => Promise<void>;
  onHeld: () => void;
  log: Logger;
}

const RETRY_MS = 1000;
/** A holder writes its name a moment after it has the lock: until then another host's may stand there. */
const SIGHTINGS = 3;

/** This deployer must not run at all: what it would do needs a right that it cannot have. */
class SupervisionRefusedError extends StartError {
  override readonly name = "SupervisionRefusedError";
}

/**
 * Holds the lock on a connection of its own for as long as both live, and stands by for it otherwise. The lock alone is not
 * enough: that of a paused process lives on.
 *
 * @throws {SupervisionRefusedError} where a deployer of another host has it, or where the connection is a pooler's that
 *   gives each transaction another session: there the lock would belong to nobody
 */
export function supervise(settings: SupervisionSettings, signal: AbortSignal): Supervision & { ended: Promise<void> } {
  const lease = createLease(settings.leaseSeconds);
  return { isHeld: lease.isHeld, holdsLock: lease.isValid, ended: keepLock(settings, lease, signal) };
}

/** Valid until so long after the last moment at which the lock was asked for and found to be ours. */
interface Lease {
  isValid(): boolean;
  /** Valid, and what an earlier holder left is taken over. */
  isHeld(): boolean;
  /** `askedAt`, on our monotonic clock: the answer may have come much later. */
  prolong(askedAt: number): void;
  hold(): void;
  end(): void;
}

function createLease(seconds: number): Lease {
  let validUntil = -Infinity;
  let isOurs = false;
  const isValid = () => performance.now() < validUntil;
  return {
    isValid,
    isHeld: () => isOurs && isValid(),
    prolong: (askedAt) => void (validUntil = askedAt + seconds * 1000),
    hold: () => void (isOurs = true),
    end() {
      validUntil = -Infinity;
      isOurs = false;
    },
  };
}

async function keepLock(settings: SupervisionSettings, lease: Lease, signal: AbortSignal): Promise<void> {
  const { platform, log } = settings;
  const standby = createStandby(settings);
  let complaint: string | undefined;
  while (!signal.aborted) {
    try {
      await holdOnce(settings, lease, standby, signal);
      complaint = undefined;
    } catch (error) {
      if (error instanceof SupervisionRefusedError) throw error;
      const reason = formatError(error);
      if (reason !== complaint) log.warn({ event: "supervision.failing", platform, error: reason });
      complaint = reason;
    }
    await pause(RETRY_MS, undefined, { signal }).catch(() => {});
  }
}

/** Tries for the lock, and holds it until the connection is lost or the signal aborts. */
async function holdOnce(
  settings: SupervisionSettings,
  lease: Lease,
  standby: ReturnType<typeof createStandby>,
  signal: AbortSignal,
): Promise<void> {
  const { platform, log } = settings;
  const { client, ended, close } = await openConnection(settings.connectionString, signal);
  try {
    const askedAt = performance.now();
    const lock = await tryLock(client, settings);
    if (!lock.is_locked) return await standby.sees(lock.supervisor, client);
    standby.isOver();
    lease.prolong(askedAt);
    const lost = Promise.race([ended, untilSilent(client, lock, settings, lease, signal)]);
    lost.catch(() => {}); // thrown below; meanwhile adopting may throw first
    await Promise.race([lost, settings.adopt()]);
    if (lease.isValid()) {
      lease.hold();
      log.info({ event: "supervision.gained", platform });
      settings.onHeld();
    }
    await lost;
    if (!signal.aborted) log.warn({ event: "supervision.lost", platform });
  } finally {
    lease.end();
    await close();
  }
}

/** Resolves when the connection gives no answer any more: one whose other side vanished would look alive for hours. */
async function untilSilent(
  client: Client,
  { session, is_recorded }: HeldLock,
  settings: SupervisionSettings,
  lease: Lease,
  signal: AbortSignal,
): Promise<void> {
  const { leaseSeconds, renewSeconds } = settings;
  let isRecorded = is_recorded;
  while (!signal.aborted) {
    await pause(renewSeconds * 1000, undefined, { signal }).catch(() => {});
    // Also after a pause of our own: somebody else may have it.
    if (!lease.isValid()) return;
    try {
      const askedAt = performance.now();
      const answerMs = (leaseSeconds - renewSeconds) * 1000;
      const { rows } = await client.query(within(answerMs, "select pg_backend_pid() as session", []));
      if (sessionRow.parse(rows[0]).session !== session) throw poolerError();
      if (lease.isValid()) lease.prolong(askedAt);
      isRecorded ||= await recordSupervisor(client, settings, answerMs);
    } catch (error) {
      if (error instanceof SupervisionRefusedError) throw error;
      return;
    }
  }
}

const sessionRow = z.object({ session: z.int() });
const lockRow = sessionRow.extend({ is_locked: z.boolean(), supervisor: z.string().nullable() });

interface HeldLock {
  session: number;
  /** Whether our name stands there. */
  is_recorded: boolean;
}

async function tryLock(client: Client, settings: SupervisionSettings) {
  // A holder whose host vanished keeps the lock until the server notices: 25 s instead of two hours. And nobody's lock on a table
  // is waited for by a session that must answer before its lease ends.
  await client.query(
    "set tcp_keepalives_idle = 10; set tcp_keepalives_interval = 5; set tcp_keepalives_count = 3; set lock_timeout = '250ms'",
  );
  const { rows: [row] } = await client.query(
    `select pg_try_advisory_lock(hashtext('osp supervisor'), hashtext($1)) as is_locked, pg_backend_pid() as session,
      (select supervisor from osp_metadata.platforms where name = $1) as supervisor`,
    [settings.platform],
  );
  const lock = lockRow.parse(row);
  let is_recorded = false;
  if (lock.is_locked) {
    const { rows } = await client.query(`select pg_backend_pid() as session`);
    if (sessionRow.parse(rows[0]).session !== lock.session) throw poolerError();
    is_recorded = await recordSupervisor(client, settings, settings.leaseSeconds * 1000);
  }
  return { ...lock, is_recorded };
}

/**
 * False: it cannot be written down now, and is tried again. The lock holds while the database is read-only or somebody has the
 * platform's row locked, and workers that die then are to be started again as well.
 */
async function recordSupervisor(
  client: Client,
  { platform, owner, leaseSeconds }: SupervisionSettings,
  answerMs: number,
): Promise<boolean> {
  const record = `select osp_metadata.record_supervisor($1, $2, $3)`;
  try {
    await client.query(within(answerMs, record, [platform, owner, leaseSeconds]));
    return true;
  } catch (error) {
    if (!isReadOnly(error) && !isLocked(error)) throw error;
    return false;
  }
}

function isReadOnly(error: unknown): boolean {
  return error instanceof Error && "code" in error && error.code === "25006";
}

function poolerError(): SupervisionRefusedError {
  return new SupervisionRefusedError(
    "Cannot supervise workers through DATABASE_URL: it leads to a pooler in transaction mode, where a lock belongs to " +
      "nobody. Use a direct connection or the pooler's session mode (on Supabase: port 5432 instead of 6543)",
  );
}

/** Somebody else has the lock: one of this host is waited for, or replaced when it hangs; one of another host never ends. */
function createStandby({ platform, log }: SupervisionSettings) {
  let seen: string | null | undefined;
  let sightings = 0;
  return {
    isOver() {
      seen = undefined;
      sightings = 0;
    },
    /** @throws {SupervisionRefusedError} */
    async sees(supervisor: string | null, client: Client): Promise<void> {
      sightings = supervisor === seen ? sightings + 1 : 1;
      const isElsewhere = supervisor !== null && !supervisor.startsWith(`${hostname()}:`);
      if (isElsewhere && sightings >= SIGHTINGS) {
        throw new SupervisionRefusedError(
          `Cannot supervise platform ${platform}: ${supervisor} does, on another host. The workers are its child ` +
            "processes; stop that deployer first, or run this one on its host",
        );
      }
      if (!isElsewhere && supervisor !== seen) log.info({ event: "supervision.standby", platform, supervisor });
      seen = supervisor;
      if (!isElsewhere && await endSilent(client, platform)) {
        log.warn({ event: "supervision.silent_ended", platform, supervisor });
      }
    },
  };
}

/** The lock of a holder that hangs lives on with its session. */
async function endSilent(client: Client, platform: string): Promise<boolean> {
  const { rows } = await client.query(`select osp_metadata.end_silent_supervisor($1) as is_ended`, [platform]);
  return z.tuple([z.object({ is_ended: z.boolean() })]).parse(rows)[0].is_ended;
}
