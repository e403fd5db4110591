import type { TestDatabase } from "./database.ts";
import { eventually } from "./services.ts";

/** Resolves when another session waits for a lock that this connection holds. */
export async function untilBlocked(
  database: TestDatabase,
  holder: { query(sql: string): Promise<{ rows: unknown[] }> },
): Promise<void> {
  const { rows: [held] } = await holder.query(`select pg_backend_pid() as pid`);
  await eventually(
    () => database.rows(`select pid from pg_stat_activity where $1 = any (pg_blocking_pids(pid))`, [Object(held).pid]),
    (waiting) => waiting.length > 0,
  );
}
