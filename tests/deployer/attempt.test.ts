import { pino } from "pino";
import { afterAll, beforeEach, expect, test } from "vitest";
import { attempt } from "../../deployer/attempt.ts";
import { runDeployer } from "../../deployer/deployer.ts";
import { type Platform, PlatformError } from "../../deployer/platforms/platform.ts";
import { platformReadiness } from "../../deployer/readiness/readiness.ts";
import { createRegistry, type Registry } from "../../deployer/registry.ts";
import { createScratch } from "../../deployer/scratch.ts";
import type { stageUpload } from "../../deployer/staging.ts";
import { createWake } from "../../deployer/wake.ts";
import { useDatabase } from "../support/database.ts";
import { idle } from "../support/deploy-request.ts";
import { createTestHandler, ring } from "../support/edge-function.ts";
import { clearServices, eventually, insertService, registryOf } from "../support/services.ts";
import { plainStaging } from "../support/staging.ts";

const database = useDatabase();
const handler = createTestHandler(database);
const pool = database.deployerPool(4);
const settings = { owner: "a", platform: "local", leaseSeconds: 2, renewTimeoutMs: 1000 };
const registry: Registry = createRegistry(pool, settings);
const rules = { maxAttempts: 3, retrySeconds: 0, retryCapSeconds: 0, deferSeconds: 0, deferCapSeconds: 0 };
const log = pino({ level: "silent" });
const never = new AbortController().signal;
const scratch = createScratch();
afterAll(() => scratch.close());
beforeEach(() => clearServices(database));

/** A platform that is only there to be asked. */
function platformThat(methods: Partial<Platform>): Platform {
  const refuse = () => Promise.reject(new Error("not to be called"));
  return { name: "local", deploy: refuse, stop: refuse, remove: refuse, list: () => Promise.resolve([]), ...methods };
}
const depsOf = (platform: Platform, overrides: Partial<Registry> = {}) => ({
  registry: { ...registry, ...overrides },
  platform,
  readiness: platformReadiness,
  rules,
  staging: plainStaging(scratch),
  idle,
  log,
});

async function claimOf(schema: string) {
  const [claim] = await registry.claim(1);
  if (claim?.service_schema !== schema) throw new Error(`${schema} is not claimable`);
  return claim;
}

test("a database that does not answer in the middle of an attempt defers it", async () => {
  await insertService(database, "s");
  await handler(ring());
  const report = () => Promise.reject(new Error("terminating connection due to administrator command"));
  for (let hiccup = 0; hiccup < 4; hiccup++) {
    await attempt(await claimOf("s"), depsOf(platformThat({}), { report }), never);
  }
  expect(await registryOf(database, "s")).toMatchObject([{
    deployment_status: "pending",
    retry_count: 0,
    error_code: "database_unreachable",
  }]);
  expect(await database.rows(`select distinct outcome from osp_metadata.deployment_attempts`)).toEqual([{
    outcome: "deferred",
  }]);
});

test("a claim that is lost by the time it is to be worked on changes nothing on the platform", async () => {
  await insertService(database, "s");
  await handler(ring());
  const claim = await claimOf("s");
  // As after a crash of the database that came before the claim was on its disk.
  await database.rows(`delete from osp_metadata.deployment_attempts`);
  await database.rows(
    `update osp_metadata.worker_registry set deployment_status = 'pending', lease_owner = null, lease_token = null, lease_expires_at = null`,
  );
  let calls = 0;
  const deploy = () => Promise.reject(new Error(`called ${++calls} times`));
  await attempt(claim, depsOf(platformThat({ deploy })), never);
  await attempt({ ...claim, manifest: null }, depsOf(platformThat({ stop: deploy, remove: deploy })), never);
  expect(calls).toBe(0);
  expect(await registryOf(database, "s")).toMatchObject([{ deployment_status: "pending", error_code: null }]);
});

test("a stop that fails is tried again for as long as it takes, also when its deployers went away", async () => {
  await insertService(database, "s", { enabled: false });
  await handler(ring());
  const failing = platformThat({ stop: () => Promise.reject(new Error("still there")) });
  for (let tried = 0; tried < 5; tried++) await attempt(await claimOf("s"), depsOf(failing), never);
  expect(await registryOf(database, "s")).toMatchObject([{ deployment_status: "pending", retry_count: 4 }]);

  const stopping = platformThat({ stop: () => Promise.resolve() });
  await attempt({ ...await claimOf("s"), abandoned: 1000 }, depsOf(stopping), never);
  expect(await registryOf(database, "s")).toMatchObject([{ deployment_status: "stopped" }]);
});

/** A registry that takes longer over a first line than over any other. */
const slowAtFirst: Partial<Registry> = {
  async report(claim, step, line) {
    for (let turn = 0; turn < 20 && line.startsWith("first"); turn++) await database.rows(`select`);
    return await registry.report(claim, step, line);
  },
};
/** The last lines of the only row, without their instants. */
const lastLines = async (count: number) =>
  (await registryOf(database, "s"))[0]?.logs.trimEnd().split("\n").slice(-count).map((line) => line.split(/\s(.*)/)[1]);

test("what is told while a revision is staged is written in its order, before what it ends with", async () => {
  await insertService(database, "s");
  await handler(ring());
  const deps = {
    ...depsOf(platformThat({}), slowAtFirst),
    stage: (...[, , report]: Parameters<typeof stageUpload>) => {
      for (const line of ["first line", "second line", "third line"]) report(line);
      return Promise.reject(new PlatformError("permanent", "code_invalid", "it is none"));
    },
  };
  await attempt(await claimOf("s"), deps, never);
  expect(await lastLines(4)).toEqual([
    ...["first line", "second line", "third line"],
    "attempt 1: failed (code_invalid): it is none",
  ]);
});

test("what is told while a revision is deployed is written in its order, before what it waits for and ends with", async () => {
  await insertService(database, "s");
  await handler(ring());
  const platform = platformThat({
    async deploy(request, report, signal) {
      for (const line of ["first line", "second line"]) report(line);
      await request.untilServing(signal);
      for (const line of ["first again", "third line"]) report(line);
      return { serviceId: "s", deploymentId: "d" };
    },
  });
  await attempt(await claimOf("s"), depsOf(platform, slowAtFirst), never);
  expect(await lastLines(6)).toEqual([
    ...["first line", "second line"],
    "its worker runs; waiting for Temporal to see it polling, and for a probe workflow that it runs",
    ...["first again", "third line"],
    "attempt 1: deployed, the worker polls its task queues",
  ]);
});

/** Runs the deployer's loop on a platform whose deployments last until they are told to end; resolves with what told them. */
async function whatEnds(
  overrides: {
    registry?: Partial<Registry>;
    supervision?: { isHeld(): boolean };
    onDeploying?: () => void;
    afterwards?: () => void;
  },
): Promise<unknown> {
  await insertService(database, "s");
  await handler(ring());
  const stop = new AbortController();
  const { promise: told, resolve: tell } = Promise.withResolvers<unknown>();
  const deploy: Platform["deploy"] = (_, __, signal) => {
    const { promise, reject } = Promise.withResolvers<never>();
    signal.addEventListener("abort", () => {
      tell(signal.reason);
      reject(signal.reason);
    });
    overrides.onDeploying?.();
    return promise;
  };
  const ended = runDeployer({
    ...depsOf(platformThat({ deploy }), overrides.registry),
    wake: createWake(),
    doorbell: undefined,
    supervision: overrides.supervision,
    isPlatformOpen: () => true,
    settings: {
      concurrency: 1,
      pollSeconds: 0.1,
      leaseSeconds: settings.leaseSeconds,
      renewSeconds: 0.2,
      sweepSeconds: 60,
      reconcileSeconds: 60,
      shutdownSeconds: 0,
    },
    log,
  }, stop.signal);
  const cause = await told;
  overrides.afterwards?.();
  stop.abort();
  await ended;
  return cause;
}

test("a deployment ends with its lease, also while its renewal hangs", async () => {
  const { promise: hangs, resolve: goOn } = Promise.withResolvers<never[]>();
  const cause = await whatEnds({ registry: { renew: () => hangs }, afterwards: () => goOn([]) });
  expect(cause).toBe("lease_lost");
});

test("losing the supervision hands back what is in hand", async () => {
  let isHeld = true;
  const cause = await whatEnds({
    supervision: { isHeld: () => isHeld },
    onDeploying: () => isHeld = false,
  });
  expect(cause).toBe("supervision_lost");
  const [row] = await eventually(() => registryOf(database, "s"), ([found]) => found?.deployment_status === "pending");
  expect(row?.logs).toContain("handed back: another deployer supervises the workers");
});

test("what a dead deployer had in hand is claimed when its lease runs out, not at the next poll after that", async () => {
  await insertService(database, "s");
  await handler(ring());
  await createRegistry(pool, { ...settings, owner: "dead", leaseSeconds: 1 }).claim(1);
  const stop = new AbortController();
  const wake = createWake();
  const { promise: claimed, resolve: tell } = Promise.withResolvers<string>();
  const ended = runDeployer({
    ...depsOf(platformThat({
      deploy(request) {
        tell(request.serviceSchema);
        return Promise.resolve({ serviceId: "s", deploymentId: "d" });
      },
    })),
    wake,
    doorbell: undefined,
    supervision: undefined,
    isPlatformOpen: () => true,
    settings: {
      concurrency: 1,
      pollSeconds: 600, // longer than the test may take
      leaseSeconds: settings.leaseSeconds,
      renewSeconds: 0.2,
      sweepSeconds: 60,
      reconcileSeconds: 60,
      shutdownSeconds: 1,
    },
    log,
  }, stop.signal);
  expect(await claimed).toBe("s");
  stop.abort();
  wake.wake();
  await ended;
  expect((await registryOf(database, "s"))[0]?.logs).toContain("claimed by a: deployer dead went away");
});
