import type { Pool } from "pg";
import { z } from "zod";
import { within } from "./connection.ts";
import type { ListedService } from "./platforms/platform.ts";

/** What was found when a platform's listing was compared with the registry, and what followed. */
const findingSchema = z.object({
  /**
   * lost: should run and is gone, requested again. left: was to stop and is there, its stop requested again. leftover: runs
   * for a deployment that has ended, ours to end. orphan: nobody wants it, new in osp_metadata.orphans.
   */
  finding: z.enum(["lost", "left", "leftover", "orphan"]),
  service_schema: z.string(),
  revision: z.int().nullable(),
  deployment_id: z.string().nullable(),
  platform_service_id: z.string().nullable(),
  reason: z.string(),
});
export type Finding = z.infer<typeof findingSchema>;

/** A listing, with the instant by the database's clock from before it was asked for. */
export interface Listing {
  services: ListedService[];
  listedAt: string;
}

/** Compares a platform with the registry; all of it is decided in SQL, in one transaction. */
export interface PlatformRegistry {
  /** The instant from which a listing counts; undefined: another deployer had its turn less than so long ago, or it is paused. */
  takeTurn(everySeconds: number): Promise<string | undefined>;
  /** How many services should run and are not listed. */
  countLost(listing: Listing): Promise<number>;
  /** @param everySeconds what was lost again and again is requested again later each time, in such steps */
  reconcile(listing: Listing, everySeconds: number): Promise<Finding[]>;
}

/** It holds no lease, and of a hundred thousand services it takes its time. */
const TIMEOUT_MS = 60_000;

export function createPlatformRegistry(pool: Pool, platform: string): PlatformRegistry {
  return {
    async takeTurn(everySeconds) {
      const { rows } = await pool.query(TAKE_TURN, [platform, everySeconds]);
      return z.tuple([z.object({ listed_at: z.string().nullable() })]).parse(rows)[0].listed_at ?? undefined;
    },
    async countLost({ services, listedAt }) {
      const { rows } = await pool.query(within(TIMEOUT_MS, COUNT_LOST, [platform, listedJson(services), listedAt]));
      return z.tuple([z.object({ count: z.int() })]).parse(rows)[0].count;
    },
    async reconcile({ services, listedAt }, everySeconds) {
      const parameters = [platform, listedJson(services), listedAt, everySeconds];
      const { rows } = await pool.query(within(TIMEOUT_MS, RECONCILE, parameters));
      return z.array(findingSchema).parse(rows);
    },
  };
}

function listedJson(services: ListedService[]): string {
  return JSON.stringify(services.map((service) => ({
    service_schema: service.serviceSchema,
    id: service.id,
    is_running: service.isRunning,
    deployment_id: service.deploymentId,
    platform_deployment_id: service.platformDeploymentId,
  })));
}

/** $1 platform, $2 seconds. As text: a Date would lose the microseconds. */
const TAKE_TURN = `select osp_metadata.take_reconcile_turn($1, $2)::text as listed_at`;

/** $1 platform, $2 listing, $3 when. */
const COUNT_LOST =
  `select count(*)::integer as count from osp_metadata.find_lost_services($1, $2::jsonb, $3::timestamptz)`;

/** $1 platform, $2 listing, $3 when, $4 seconds. */
const RECONCILE = `select * from osp_metadata.reconcile_platform($1, $2::jsonb, $3::timestamptz, $4)`;
