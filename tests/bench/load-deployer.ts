// A deployer of the product's own parts for load: its platform says at once that everything runs, and nothing is staged.
// What is left is what the product costs: claims, renewals, reports, settlements. Started by start-program.ts.
import { pino } from "pino";
import { loopSettings, parseConfig } from "../../deployer/config.ts";
import { runDeployer } from "../../deployer/deployer.ts";
import { createDoorbell } from "../../deployer/doorbell.ts";
import { openPool, openRenewalPool } from "../../deployer/open-pool.ts";
import type { Platform } from "../../deployer/platforms/platform.ts";
import { platformReadiness } from "../../deployer/readiness/readiness.ts";
import { createRegistry, type Registry } from "../../deployer/registry.ts";
import type { Scratch } from "../../deployer/scratch.ts";
import { createWake, listen } from "../../deployer/wake.ts";
import type { ClaimedMessage } from "./start-program.ts";
import { plainStaging } from "../support/staging.ts";

const noPlatform: Platform = {
  name: "none",
  async deploy(request, _report, signal) {
    await request.untilServing(signal);
    return { serviceId: `none-${request.serviceSchema}`, deploymentId: request.deploymentId };
  },
  stop: () => Promise.resolve(),
  remove: () => Promise.resolve(),
  list: () => Promise.resolve([]),
};

/** Tells our parent the moment at which this process has rows in hand. */
function tellClaims(registry: Registry): Registry {
  return {
    ...registry,
    async claim(limit, takesSuspect) {
      const claims = await registry.claim(limit, takesSuspect);
      const at = performance.timeOrigin + performance.now();
      const message: ClaimedMessage = { claimed: claims.map((claim) => claim.id), at };
      if (claims.length > 0) process.send?.(message);
      return claims;
    },
  };
}

const config = parseConfig(process.env);
const log = pino({ level: "warn" });
const pool = openPool(config.DATABASE_URL, config.OSP_LEASE_SECONDS);
const renewals = openRenewalPool(config.DATABASE_URL, config.OSP_LEASE_SECONDS);
/** Nothing is staged: ten thousand directories would be a benchmark of the disk. */
const scratch: Scratch = {
  directory: () => Promise.resolve({ path: "", remove: () => Promise.resolve() }),
  close: () => Promise.resolve(),
};
const wake = createWake();
const stop = new AbortController();
process.once("SIGTERM", () => {
  stop.abort();
  wake.wake();
});
const listening = listen(config.DATABASE_URL, wake.wake, stop.signal);
await runDeployer({
  registry: tellClaims(createRegistry(pool, {
    owner: config.owner,
    platform: config.OSP_PLATFORM,
    leaseSeconds: config.OSP_LEASE_SECONDS,
    renewTimeoutMs: (config.OSP_LEASE_SECONDS - config.OSP_RENEW_SECONDS) * 500,
  }, renewals)),
  platform: noPlatform,
  readiness: platformReadiness,
  stage: () => scratch.directory("none"),
  staging: plainStaging(scratch),
  rules: { maxAttempts: 3, retrySeconds: 5, retryCapSeconds: 300, deferSeconds: 5, deferCapSeconds: 60 },
  wake,
  doorbell: config.FUNCTIONS_URL !== undefined && config.OSP_WEBHOOK_SECRET !== undefined
    ? createDoorbell(config.FUNCTIONS_URL, config.OSP_WEBHOOK_SECRET)
    : undefined,
  supervision: undefined,
  isPlatformOpen: () => true,
  settings: loopSettings(config),
  log,
}, stop.signal);
await listening;
await Promise.all([pool.end(), renewals.end()]);
process.disconnect?.();
