import { hostname } from "node:os";
import { setTimeout as pause } from "node:timers/promises";
import type { Logger } from "pino";
import type { Client } from "pg";
import { z } from "zod";
import { formatError } from "../supabase/functions/_shared/problems.ts";
import { openConnection, within } from "./connection.ts";
import { StartError } from "./start-error.ts";

/** The right to look after child processes: one deployer per database has it, the others stand by. */
export interface Supervision {
  isHeld(): boolean;
}

export interface SupervisionSettings {
  connectionString: string;
  /** Platform whose processes are looked after. */
  platform: string;
  /** `<host>:<pid>` of this deployer. */
  owner: string;
  onGained: () => Promise<void>;
  log: Logger;
}

const RETRY_MS = 1000;
const HEARTBEAT_MS = 2000;
/** Without an answer for so long the lock is taken for lost. */
const ANSWER_TIMEOUT_MS = 5000;
/** A holder writes its name a moment after it has the lock: until then another host's may stand there. */
const SIGHTINGS = 3;

/** This deployer must not run at all: what it would do needs a right that it cannot have. */
class SupervisionRefusedError extends StartError {
  override readonly name = "SupervisionRefusedError";
}

/**
 * Holds the lock on a connection of its own for as long as both live, and stands by for it otherwise.
 *
 * @throws {SupervisionRefusedError} where a deployer of another host has it, or where the connection is a pooler's that
 *   gives each transaction another session: there the lock would belong to nobody
 */
export function supervise(settings: SupervisionSettings, signal: AbortSignal): Supervision & { ended: Promise<void> } {
  let isHeld = false;
  return { isHeld: () => isHeld, ended: keepLock(settings, (held) => isHeld = held, signal) };
}

async function keepLock(
  settings: SupervisionSettings,
  hold: (held: boolean) => void,
  signal: AbortSignal,
): Promise<void> {
  const { platform, log } = settings;
  const standby = createStandby(settings);
  let complaint: string | undefined;
  while (!signal.aborted) {
    try {
      await holdOnce(settings, hold, standby, signal);
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
  hold: (held: boolean) => void,
  standby: ReturnType<typeof createStandby>,
  signal: AbortSignal,
): Promise<void> {
  const { platform, log } = settings;
  const { client, ended, close } = await openConnection(settings.connectionString, signal);
  try {
    const lock = await tryLock(client, settings);
    if (!lock.is_locked) return standby.sees(lock.supervisor);
    standby.isOver();
    await settings.onGained();
    hold(true);
    log.info({ event: "supervision.gained", platform });
    await Promise.race([ended, untilSilent(client, lock.session, signal)]);
    if (!signal.aborted) log.warn({ event: "supervision.lost", platform });
  } finally {
    hold(false);
    await close();
  }
}

/** Resolves when the connection gives no answer any more: one whose other side vanished would look alive for hours. */
async function untilSilent(client: Client, session: number, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    await pause(HEARTBEAT_MS, undefined, { signal }).catch(() => {});
    try {
      const { rows } = await client.query(within(ANSWER_TIMEOUT_MS, "select pg_backend_pid() as session", []));
      if (sessionRow.parse(rows[0]).session !== session) throw poolerError();
    } catch (error) {
      if (error instanceof SupervisionRefusedError) throw error;
      return;
    }
  }
}

const sessionRow = z.object({ session: z.int() });
const lockRow = sessionRow.extend({ is_locked: z.boolean(), supervisor: z.string().nullable() });

async function tryLock(client: Client, { platform, owner }: SupervisionSettings) {
  // A holder whose host vanished keeps the lock until the server notices: 25 s instead of two hours.
  await client.query("set tcp_keepalives_idle = 10; set tcp_keepalives_interval = 5; set tcp_keepalives_count = 3");
  const { rows: [row] } = await client.query(
    `select pg_try_advisory_lock(hashtext('osp supervisor'), hashtext($1)) as is_locked, pg_backend_pid() as session,
      (select supervisor from osp_metadata.platforms where name = $1) as supervisor`,
    [platform],
  );
  const lock = lockRow.parse(row);
  if (lock.is_locked) {
    const { rows } = await client.query(
      `update osp_metadata.platforms set supervisor = $2, supervised_at = clock_timestamp() where name = $1
        returning pg_backend_pid() as session`,
      [platform, owner],
    );
    if (sessionRow.parse(rows[0]).session !== lock.session) throw poolerError();
  }
  return lock;
}

function poolerError(): SupervisionRefusedError {
  return new SupervisionRefusedError(
    "Cannot supervise workers through DATABASE_URL: it leads to a pooler in transaction mode, where a lock belongs to " +
      "nobody. Use a direct connection or the pooler's session mode (on Supabase: port 5432 instead of 6543)",
  );
}

/** Somebody else has the lock: one of this host is waited for, one of another host never ends. */
function createStandby({ platform, log }: SupervisionSettings) {
  let seen: string | null | undefined;
  let sightings = 0;
  return {
    isOver() {
      seen = undefined;
      sightings = 0;
    },
    /** @throws {SupervisionRefusedError} */
    sees(supervisor: string | null): void {
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
    },
  };
}
