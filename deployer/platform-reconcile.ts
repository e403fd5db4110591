import { setTimeout as pause } from "node:timers/promises";
import type { Logger } from "pino";
import { createComplaint } from "./complaint.ts";
import type { Finding, Listing, PlatformRegistry } from "./platform-registry.ts";
import type { ListedService, Platform } from "./platforms/platform.ts";
import type { Supervision } from "./supervision.ts";

export interface PlatformReconcileDeps {
  platform: Pick<Platform, "name" | "list">;
  registry: PlatformRegistry;
  /** Undefined on platforms that any number of deployers may work on at once: there they take turns. */
  supervision: Pick<Supervision, "isHeld"> | undefined;
  /** How often the platform is compared, by all deployers of the database together. */
  everySeconds: number;
  /** Ends the worker of a deployment that has ended; left out where the platform cannot tell. */
  endLeftovers?: (deploymentId: string) => void;
  log: Logger;
}

/** Whose turn it is, is asked more often than a turn comes: a deployer that had it may be gone. */
const LONGEST_PAUSE_SECONDS = 60;

/**
 * Compares what the platform lists with the registry, again and again until the signal aborts: what is gone is requested
 * again, what was to go is stopped again, what nobody wants is reported. A listing that fails is none: nothing follows.
 */
export async function reconcilePlatform(deps: PlatformReconcileDeps, signal: AbortSignal): Promise<void> {
  const { everySeconds, supervision, log } = deps;
  const complaint = createComplaint(log, "platform_reconcile");
  while (!signal.aborted) {
    await pause(Math.min(everySeconds / 2, LONGEST_PAUSE_SECONDS) * 1000, undefined, { signal }).catch(() => {});
    if (!signal.aborted && supervision?.isHeld() !== false) {
      await complaint.about(reconcileOnce(deps, signal), undefined);
    }
  }
}

async function reconcileOnce(deps: PlatformReconcileDeps, signal: AbortSignal): Promise<void> {
  const { registry, everySeconds } = deps;
  const listedAt = await registry.takeTurn(everySeconds);
  if (listedAt === undefined) return;
  const listing = await listSurely(listedAt, deps, signal);
  for (const finding of await registry.reconcile(listing, everySeconds)) follow(finding, deps);
}

const SECOND_LOOK_SECONDS = 30;

/** What one listing lacks and the next one shows was never gone. A platform that is a list of our own does not err. */
async function listSurely(
  listedAt: string,
  { platform, registry, supervision, everySeconds }: PlatformReconcileDeps,
  signal: AbortSignal,
): Promise<Listing> {
  const services = await platform.list(signal);
  const isOurs = supervision !== undefined;
  if (isOurs || await registry.countLost({ services, listedAt }) === 0) return { services, listedAt };
  await pause(Math.min(everySeconds / 4, SECOND_LOOK_SECONDS) * 1000, undefined, { signal });
  return { services: unite(services, await platform.list(signal)), listedAt };
}

/** What runs in either. Pure. */
function unite(first: ListedService[], second: ListedService[]): ListedService[] {
  const isInSecond = ({ id, isRunning, platformDeploymentId }: ListedService) =>
    second.some((other) =>
      other.id === id && (other.isRunning ? other.platformDeploymentId === platformDeploymentId : !isRunning)
    );
  return [...first.filter((service) => !isInSecond(service)), ...second];
}

function follow(finding: Finding, { platform, endLeftovers, log }: PlatformReconcileDeps): void {
  const { finding: kind, service_schema, revision, deployment_id, platform_service_id, reason } = finding;
  const facts = { platform: platform.name, service_schema, reason };
  if (kind === "orphan") log.warn({ event: "platform.orphan_found", ...facts, platform_service_id });
  else log.warn({ event: `platform.service_${kind}`, ...facts, revision });
  if (kind === "leftover" && deployment_id !== null) endLeftovers?.(deployment_id);
}
