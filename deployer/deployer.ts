import { setTimeout as pause } from "node:timers/promises";
import { attempt, type AttemptDeps } from "./attempt.ts";
import { createComplaint } from "./complaint.ts";
import type { Doorbell } from "./doorbell.ts";
import { createHands, type Hands } from "./hands.ts";
import { createMissingCodeWatch } from "./missing-code.ts";
import { renewLeases } from "./renew-leases.ts";
import type { Supervision } from "./supervision.ts";
import type { Wake } from "./wake.ts";

export interface DeployerSettings {
  concurrency: number;
  pollSeconds: number;
  leaseSeconds: number;
  renewSeconds: number;
  sweepSeconds: number;
  reconcileSeconds: number;
  shutdownSeconds: number;
}

export interface DeployerDeps extends Omit<AttemptDeps, "idle"> {
  wake: Wake;
  /** Undefined: nothing to ring from here. */
  doorbell: Doorbell | undefined;
  /** Undefined on platforms that any number of deployers may work on at once. */
  supervision: Pick<Supervision, "isHeld"> | undefined;
  /** Whether the platform takes anything now. */
  isPlatformOpen: () => boolean;
  settings: DeployerSettings;
}

/** What ends within so little time is claimed for in one statement, where there is more work than hands. */
const GATHER_MS = 20;
/** Sooner it might be a moment before. */
const EXPIRY_SLACK_MS = 10;
/** A second's share: whoever takes over what is lost may begin at once. */
const LOSS_TICK_MS = 100;

/** Claims and deploys until `signal` aborts; what is in hand is then settled, or handed back after the grace. */
export async function runDeployer(deps: DeployerDeps, signal: AbortSignal): Promise<void> {
  const { registry, log } = deps;
  const { concurrency, leaseSeconds, renewSeconds } = deps.settings;
  const hands = createHands({ concurrency, leaseSeconds, onFree: deps.wake.wake });
  const background = new AbortController();
  const beside = [
    renewLeases({ hands, registry, renewSeconds, log }, background.signal),
    endWhatIsLost(hands, deps, background.signal),
    sweep(deps, signal),
  ];
  await claimAndDeploy(hands, deps, signal);

  const isFree = await hands.empty(deps.settings.shutdownSeconds * 1000);
  if (!isFree) {
    log.info({ event: "deployer.handing_back", deployments: hands.size });
    hands.abortAll("shutdown");
    await hands.empty(5000);
  }
  background.abort();
  await Promise.all(beside);
}

async function claimAndDeploy(hands: Hands, deps: DeployerDeps, signal: AbortSignal): Promise<void> {
  const { registry, wake, supervision, isPlatformOpen, settings, log } = deps;
  const complaint = createComplaint(log, "registry");
  while (!signal.aborted) {
    const free = isPlatformOpen() && (supervision === undefined || supervision.isHeld()) ? hands.free() : 0;
    const claimedAt = performance.now();
    const claims = free > 0 ? await complaint.about(registry.claim(free, !hands.hasSuspect), []) : [];
    for (const claim of claims) {
      void hands.take(claim, claimedAt, (abort, idle) => attempt(claim, { ...deps, idle }, abort));
    }
    // Lost while the claim was asked for, perhaps by a pause of this process.
    if (supervision?.isHeld() === false) hands.abortAll("supervision_lost");
    // A full hand of claims: there may be more at once.
    if (claims.length < free) await wake.wait(await untilNextLook(deps), signal);
    else if (free === 0) {
      await wake.wait(settings.pollSeconds * 1000, signal);
      await pause(GATHER_MS, undefined, { signal }).catch(() => {});
    }
  }
}

/** Milliseconds: the poll interval, less where a lease runs out before. Nobody notifies of that: its holder is dead. */
async function untilNextLook({ registry, settings }: DeployerDeps): Promise<number> {
  const pollMs = settings.pollSeconds * 1000;
  // What has run out already, and was not claimed, waits for something else.
  const expiryMs = await registry.nextExpiryMs().catch(() => undefined) ?? 0;
  return expiryMs > 0 ? Math.min(pollMs, expiryMs + EXPIRY_SLACK_MS) : pollMs;
}

/** Beside the renewal, which may be waiting for a database that does not answer. */
async function endWhatIsLost(hands: Hands, { supervision }: DeployerDeps, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    await pause(LOSS_TICK_MS, undefined, { signal }).catch(() => {});
    hands.abortExpired();
    if (supervision?.isHeld() === false) hands.abortAll("supervision_lost");
  }
}

/** What no trigger saw is requested, what nobody keeps is removed, and what waits too long is rung for. */
async function sweep({ registry, doorbell, settings, log }: DeployerDeps, signal: AbortSignal): Promise<void> {
  const complaint = createComplaint(log, "sweep");
  const pruning = createComplaint(log, "pruning");
  const codeCheck = createComplaint(log, "code_check");
  const lookForMissingCode = createMissingCodeWatch(registry, log);
  let reconciledAt = -Infinity;
  while (!signal.aborted) {
    const isDue = performance.now() - reconciledAt >= settings.reconcileSeconds * 1000;
    const look = async () => {
      const waiting = isDue
        ? await registry.reconcile()
        : await registry.countWaitingIntents(Math.ceil(settings.sweepSeconds));
      if (isDue) reconciledAt = performance.now();
      const pruned = isDue ? await pruning.about(registry.prune(), 0) : 0;
      if (isDue) await codeCheck.about(lookForMissingCode(), undefined);
      if (waiting + pruned > 0 && doorbell !== undefined) await doorbell.ring(signal);
    };
    await complaint.about(look(), undefined);
    await pause(settings.sweepSeconds * 1000, undefined, { signal }).catch(() => {});
  }
}
