import { hostname } from "node:os";
import { setTimeout as pause } from "node:timers/promises";
import type { Logger } from "pino";
import { Client } from "pg";
import { formatError } from "../supabase/functions/_shared/problems.ts";
import { untilEnded } from "./connection.ts";
import { z } from "zod";

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
  onLost: () => void;
  log: Logger;
}

const RETRY_MS = 1000;
const supervisorRow = z.object({ is_locked: z.boolean(), supervisor: z.string().nullable() });

/** Another host supervises: its processes cannot be seen from here, so this deployer must not run at all. */
export class OtherHostError extends Error {
  override readonly name = "OtherHostError";
}

/**
 * Holds the lock on a connection of its own for as long as both live, and stands by for it otherwise.
 *
 * @throws {OtherHostError} where a deployer of another host has it
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
  let standingBehind: string | undefined;
  let complaint: string | undefined;
  while (!signal.aborted) {
    const client = new Client({
      connectionString: settings.connectionString,
      keepAlive: true,
      connectionTimeoutMillis: 5000,
    });
    const ended = untilEnded(client, signal);
    try {
      await client.connect();
      const { is_locked, supervisor } = await tryLock(client, settings);
      if (is_locked) {
        await settings.onGained();
        hold(true);
        log.info({ event: "supervision.gained", platform });
        await ended;
        hold(false);
        settings.onLost();
        if (!signal.aborted) log.warn({ event: "supervision.lost", platform });
      } else if (supervisor !== null && !supervisor.startsWith(`${hostname()}:`)) {
        throw new OtherHostError(
          `Cannot supervise platform ${platform}: ${supervisor} does, on another host. The workers are its child processes; ` +
            `stop that deployer first, or run this one on its host`,
        );
      } else if (supervisor !== standingBehind) {
        standingBehind = supervisor ?? undefined;
        log.info({ event: "supervision.standby", platform, supervisor });
      }
    } catch (error) {
      if (error instanceof OtherHostError) throw error;
      const reason = formatError(error);
      if (reason !== complaint) log.warn({ event: "supervision.failing", platform, error: reason });
      complaint = reason;
    } finally {
      await client.end().catch(() => {});
    }
    await pause(RETRY_MS, undefined, { signal }).catch(() => {});
  }
}

async function tryLock(client: Client, { platform, owner }: SupervisionSettings) {
  const lock = await client.query(
    `select pg_try_advisory_lock(hashtext('osp supervisor'), hashtext($1)) as is_locked`,
    [platform],
  );
  if (supervisorRow.pick({ is_locked: true }).parse(lock.rows[0]).is_locked) {
    await client.query(
      `update osp_metadata.platforms set supervisor = $2, supervised_at = clock_timestamp() where name = $1`,
      [platform, owner],
    );
    return { is_locked: true, supervisor: owner };
  }
  const holder = await client.query(
    `select false as is_locked, supervisor from osp_metadata.platforms where name = $1`,
    [platform],
  );
  return supervisorRow.parse(holder.rows[0]);
}
