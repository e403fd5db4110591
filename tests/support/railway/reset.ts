import { clearServices } from "../services.ts";
import type { TestDatabase } from "../database.ts";

/** A database as after the migrations: no service, no deployment, a platform with all its requests left. */
export async function resetDatabase(database: TestDatabase): Promise<void> {
  await clearServices(database);
  await database.rows(
    `update osp_metadata.platforms
     set reconciled_at = null, window_started_at = null, throttled_until = null, paused_at = null, paused_by = null, pause_reason = null`,
  );
}
