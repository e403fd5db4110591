import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import type { ActivityQueue } from "../supabase/functions/_shared/manifest.ts";
import { openBundleCache } from "./bundle-cache.ts";
import type { ActivityRouting } from "./service/activity-queues.ts";

/**
 * A bundle whose workflows send activities with limits to the task queues of those (service/activity-queues.ts), made of one that can.
 *
 * @param taskQueue of the workflows
 * @returns the file as it is where there is none
 */
export async function routeActivities(
  bundle: string,
  taskQueue: string,
  apart: readonly ActivityQueue[],
  { cacheDirectory, limitedWaitSeconds }: { cacheDirectory: string; limitedWaitSeconds: number },
): Promise<string> {
  if (apart.length === 0) return bundle;
  const routing: ActivityRouting = {
    taskQueue,
    queues: Object.fromEntries(apart.map(({ activity, taskQueue: own }) => [activity, own])),
    waitMs: limitedWaitSeconds * 1000,
  };
  // On the line that the bundle begins with: its source map counts lines.
  const prefix = `globalThis.__osp_routing = ${JSON.stringify(routing)}; `;
  const code = prefix + await readFile(bundle, "utf8");
  const cache = openBundleCache(cacheDirectory);
  const name = `${createHash("sha256").update(code).digest("hex")}.js`;
  return cache.find(name) ?? cache.write(code, name);
}
