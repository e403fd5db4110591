import { z } from "zod";
import type { RunStatement } from "./statements.ts";

const missingCodeSchema = z.object({ service_schema: z.string(), code: z.string(), missing_since: z.date() });
type MissingCode = z.infer<typeof missingCodeSchema>;

/** What a deployer does for all services now and then, beside its deployments. */
export interface Upkeep {
  countWaitingIntents(olderThanSeconds: number): Promise<number>;
  reconcile(): Promise<number>;
  /** Removes what retention lets go of; how many objects of Storage, unused code too, wait for the Edge Function to remove them. */
  prune(): Promise<number>;
  /** Looks whether Storage has the code that was pushed: what it lacks, though a service or a deployment needs it. */
  checkCode(): Promise<MissingCode[]>;
}

/** It compares every service: some seconds for a hundred thousand. What it has found is written, waited for or not. */
const RECONCILE_TIMEOUT_MS = 30_000;

export function createUpkeep(run: RunStatement): Upkeep {
  return {
    async countWaitingIntents(olderThanSeconds) {
      return count(await run(`select osp_metadata.count_waiting_intents($1) as count`, [olderThanSeconds]));
    },
    async reconcile() {
      return count(await run(`select osp_metadata.reconcile() as count`, [], RECONCILE_TIMEOUT_MS));
    },
    async prune() {
      return count(await run(`select osp_metadata.prune() + osp_metadata.count_unused_code() as count`, []));
    },
    async checkCode() {
      const { rows } = await run(`select * from osp_metadata.check_code()`, []);
      return z.array(missingCodeSchema).parse(rows);
    },
  };
}

function count({ rows }: { rows: unknown[] }): number {
  return z.tuple([z.object({ count: z.int() })]).parse(rows)[0].count;
}
