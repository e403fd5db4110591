import { describe, expect, test } from "vitest";
import { troubles } from "../../../local/railway/faults.ts";
import { log } from "../../../local/railway/lifecycle.ts";
import { onRailway } from "../../support/railway/deployers.ts";
import type { UsedRailway } from "../../support/railway/use-railway.ts";
import { eventually, registryOf, type RegistryRow } from "../../support/services.ts";

/** What becomes of rows on platform railway, with whichever CLI. */
export function testRows(railway: UsedRailway): void {
  describe("a row and its Railway service", () => {
    test("a row becomes a service with its variables, settings and upload, and the row says so", async () => {
      railway.machine.start({
        ...{ OSP_RAILWAY_VARIABLES: '{"EXTRA":"some secret"}', TEMPORAL_NAMESPACE: "prod" },
        ...{ OSP_ACTIVITY_SECRET: "of all activities", OSP_ACTIVITY_SECRET_PREVIOUS: "of them all before" },
        ...{ OSP_ACTIVITY_NETWORKS: "fd12::/16", OSP_ACTIVITY_PLAIN_HTTP: "true" },
      });
      await railway.machine.insert("billing");
      const row = await railway.machine.deployed("billing");
      const { services: [service], deployments: [deployment, ...others] } = onRailway(railway.fake, "billing");
      expect(others).toEqual([]);
      expect(row).toMatchObject({ platform_service_id: service?.id, platform_deployment_id: deployment?.id });
      expect(deployment).toMatchObject({
        status: "SUCCESS",
        message: "osp billing revision 1",
        variables: {
          ...{ MANIFEST_PATH: "manifests/billing.json", PORT: "8080", OSP_SERVICE: "billing", OSP_REVISION: "1" },
          ...{ EXTRA: "some secret", TEMPORAL_ADDRESS: "127.0.0.1:9", TEMPORAL_NAMESPACE: "prod" },
          ...{ OSP_ACTIVITY_SECRET: "of all activities", OSP_ACTIVITY_SECRET_PREVIOUS: "of them all before" },
          ...{ OSP_ACTIVITY_NETWORKS: "fd12::/16", OSP_ACTIVITY_PLAIN_HTTP: "true" },
          ...{ OSP_DRAIN_SECONDS: "3", RAILWAY_DEPLOYMENT_DRAINING_SECONDS: "13" },
        },
        settings: {
          ...{ healthcheckPath: "/readyz", healthcheckTimeout: 300, restartPolicyType: "ON_FAILURE", numReplicas: 1 },
          ...{ drainingSeconds: 13, overlapSeconds: 10, startCommand: "node worker/launch-worker.ts" },
        },
      });
      const paths = deployment?.files.map(({ path }) => path) ?? [];
      expect(paths).toEqual(expect.arrayContaining(["Dockerfile", "package-lock.json", "worker/launch-worker.ts"]));
      expect(paths.filter((path) => path.startsWith("manifests/"))).toEqual(["manifests/billing.json"]);
    });

    test("a row's replicas run, before the operator's, and go when the row asks for none any more", async () => {
      const { machine, fake, database } = railway;
      const running = () => onRailway(fake, "billing").running.map(({ replicas }) => replicas.length);
      machine.start();
      await machine.insert("billing", { options: { replicas: 3 } });
      await machine.deployed("billing");
      expect(running()).toEqual([3]);
      await database.rows(`update osp.services set options = '{"replicas": 2}'`);
      await machine.ringBell();
      await machine.deployed("billing", 2);
      expect(running()).toEqual([2]);
      await database.rows(`update osp.services set options = '{}'`);
      await machine.ringBell();
      await machine.deployed("billing", 3);
      expect(running()).toEqual([1]);
    });

    test("a changed service costs eight requests with a build of three looks, an unchanged one none", async () => {
      railway.machine.start();
      await railway.machine.insert("billing");
      await railway.machine.deployed("billing");
      const before = railway.fake.journal.requests.length;
      await railway.database.rows(`update osp.services set updated_at = now()`);
      await railway.machine.ringBell();
      railway.fake.plans.next("billing", ["BUILDING", "SUCCESS"]);
      await railway.database.rows(`update osp.services set service_name = 'New'`);
      await railway.machine.ringBell();
      await railway.machine.deployed("billing", 2);
      expect(railway.operations(before)).toEqual([
        ...["Service", "SetVariables", "Project", "up"],
        ...["Deployments", "Deployments", "Deployments", "ServiceDeployments"],
      ]);
      const { services, running } = onRailway(railway.fake, "billing");
      expect([services.length, running.length]).toEqual([1, 1]);
      const [platform] = await railway.database.rows<{ window_requests: number; window_quota: number }>(
        `select window_requests, window_quota from osp_metadata.platforms where name = 'railway'`,
      );
      expect(platform).toEqual({ window_requests: railway.fake.journal.requests.length, window_quota: 100_000 });
    });

    test("disable ends its deployment, enable begins another on the same service, delete removes it", async () => {
      railway.machine.start();
      await railway.machine.insert("billing");
      await railway.machine.deployed("billing");
      await railway.database.rows(`update osp.services set enabled = false`);
      await railway.machine.ringBell();
      await railway.machine.row("billing", (row) => row.revision === 2 && row.deployment_status === "stopped");
      expect(onRailway(railway.fake, "billing")).toMatchObject({
        services: [{}],
        deployments: [{ status: "REMOVED" }],
      });
      await railway.database.rows(`update osp.services set enabled = true`);
      await railway.machine.ringBell();
      await railway.machine.deployed("billing", 3);
      expect(onRailway(railway.fake, "billing")).toMatchObject({ services: [{}], running: [{}] });
      await railway.database.rows(`delete from osp.services`);
      await railway.machine.ringBell();
      await railway.machine.row("billing", (row) => row.revision === 4 && row.deployment_status === "stopped");
      expect(onRailway(railway.fake, "billing").services).toEqual([]);
    });

    test("a name that is too long is mapped, and the log says to what", async () => {
      const schema = `a${"_very_long_name".repeat(4)}`;
      railway.machine.start();
      await railway.machine.insert(schema);
      const { logs } = await railway.machine.deployed(schema);
      const [service] = railway.fake.world.services.values();
      expect(service?.name).toHaveLength(32);
      expect(logs).toContain(service?.name);
    });

    test("a service that was deleted behind our back is made again", async () => {
      railway.machine.start();
      await railway.machine.insert("billing");
      await railway.machine.deployed("billing");
      railway.fake.operator.removeService("billing");
      await railway.redeploy("billing");
      await railway.machine.deployed("billing", 2);
      expect(onRailway(railway.fake, "billing")).toMatchObject({ services: [{}], running: [{}] });
    });

    test("a service of somebody else with the same name is left alone", async () => {
      const foreign = railway.fake.operator.createService("billing", { THEIRS: "1" });
      railway.machine.start();
      await railway.machine.insert("billing");
      const row = await railway.machine.failed("billing");
      expect(row.error_code).toBe("railway_foreign_service");
      expect(row.error_message).toContain(foreign.id);
      await railway.database.rows(`delete from osp.services`);
      await railway.machine.ringBell();
      await railway.machine.row("billing", (last) => last.revision === 2 && last.deployment_status === "stopped");
      expect(onRailway(railway.fake, "billing").services).toEqual([foreign]);
      expect(Object.fromEntries(railway.fake.operator.instance(foreign.id).variables)).toMatchObject({
        THEIRS: { value: "1" },
      });
    });
  });
}

/** How deployments end, and what befalls them on the way. */
export function testEndings(railway: UsedRailway): void {
  describe("how a deployment ends", () => {
    test("a worker that refuses its configuration fails at once, and the old one serves on", async () => {
      railway.machine.start();
      await railway.machine.insert("billing");
      await railway.machine.deployed("billing");
      const old = onRailway(railway.fake, "billing").running[0];
      railway.fake.plans.next("billing", ["BUILDING", "BUILDING", "BUILDING", "FAILED"]);
      await railway.redeploy("billing");
      const deployment = await eventually(
        () => Promise.resolve(onRailway(railway.fake, "billing").deployments[1]),
        (found) => found !== undefined,
      );
      if (!deployment) throw new Error("no deployment");
      log(deployment, "build", "the image is built");
      log(deployment, "deployment", "", {
        ...{ level: "error", event: '"worker.exit"', code: "78", problems: '["activity \\"x\\": no such export"]' },
      });
      const row = await railway.machine.failed("billing");
      expect(row).toMatchObject({ revision: 2, retry_count: 0, error_code: "worker_unusable" });
      expect(row.error_message).toContain('activity "x": no such export');
      expect((await railway.machine.attempts("billing")).at(-1)?.log_tail).toContain("no such export");
      expect(onRailway(railway.fake, "billing").running).toEqual([old]);
    });

    test.each(
      [
        ["CRASHED", ["BUILDING", "SUCCESS", "CRASHED"], "deployment_crashed"],
        ["FAILED", ["FAILED"], "build_failed"],
      ] as const,
    )("%s ends it", async (_, steps, code) => {
      railway.machine.start();
      railway.fake.plans.next("*", [...steps], 3);
      await railway.machine.insert("billing");
      expect(await railway.machine.failed("billing")).toMatchObject({ error_code: code, retry_count: 0 });
    });

    test("one that Railway skips, or that somebody removes, is tried again", async () => {
      railway.machine.start();
      railway.fake.plans.next("*", ["SKIPPED"]);
      railway.fake.plans.next("*", ["BUILDING", "REMOVED"]);
      await railway.machine.insert("billing");
      expect(await railway.machine.deployed("billing")).toMatchObject({ retry_count: 2 });
      const codes = (await railway.machine.attempts("billing")).map(({ error_code }) => error_code);
      expect(codes).toEqual(["deployment_skipped", "deployment_replaced", null]);
    });

    test.each(
      [
        ["NEEDS_APPROVAL", "deployment_waits", 0],
        ["BUILDING", "deployment_late", 0],
      ] as const,
    )("one that stays %s is cancelled after the deadline", async (status, code, retries) => {
      railway.machine.start({ OSP_RAILWAY_DEPLOY_TIMEOUT_SECONDS: "1", OSP_MAX_ATTEMPTS: "1" });
      railway.fake.plans.next("*", Array.from({ length: 100 }, () => status));
      await railway.machine.insert("billing");
      expect(await railway.machine.failed("billing")).toMatchObject({ error_code: code, retry_count: retries });
      expect(onRailway(railway.fake, "billing").deployments).toMatchObject([{ status: "REMOVED" }]);
    });
  });

  describe("trouble on the way", () => {
    test.each(
      [
        ["the answer of serviceCreate is lost", { on: "serviceCreate", ...troubles.cutAfter() }],
        ["serviceCreate lands twice", { on: "serviceCreate", ...troubles.twice() }],
        ["the answer of serviceCreate is a page of HTML", { on: "serviceCreate", lands: 1, ...troubles.htmlPage() }],
        ["the answer of an upload is lost", { on: "up", ...troubles.cutAfter() }],
        ["the upload lands twice", { on: "up", ...troubles.twice() }],
        ["the upload is cut off before", { on: "up", ...troubles.cutBefore() }],
        ["the upload ends in 504, and landed", { on: "up", lands: 1, ...troubles.htmlPage(504) }],
        ["setting up is cut off", { on: "serviceInstanceUpdate", ...troubles.cutAfter() }],
        ["a poll is cut off", { on: "Deployments", ...troubles.cutBefore(), times: 2 }],
        ["polls are answered 500", { on: "Deployments", ...troubles.serverError(), times: 2 }],
        ["a page of HTML", { on: "Services", ...troubles.htmlPage() }],
        ["a throttle among GraphQL's errors", { on: "serviceInstanceUpdate", ...troubles.throttled() }],
      ] as const,
    )("%s: one service and one deployment run", async (name, fault) => {
      railway.fake.faults.add({ ...fault });
      railway.machine.start();
      await railway.machine.insert("billing");
      if (name.includes("throttle")) {
        await railway.machine.row("billing", (row) => row.error_code === "railway_throttled");
        await railway.database.rows(`update osp_metadata.platforms set throttled_until = null`);
        await railway.database.rows(`update osp_metadata.worker_registry set next_attempt_at = null`);
      }
      const row = await railway.machine.deployed("billing");
      expect(row.retry_count).toBeLessThanOrEqual(1);
      expect(onRailway(railway.fake, "billing")).toMatchObject({ services: [{}], running: [{}] });
    });

    test("a throttle costs no attempt, and every deployer waits for as long as Railway says", async () => {
      railway.machine.start();
      railway.fake.faults.add({ on: "serviceCreate", ...troubles.rateLimited(40) });
      await railway.machine.insert("billing");
      await railway.machine.row(
        "billing",
        (row) => row.error_code === "railway_throttled" && row.deployment_status === "pending",
      );
      expect((await railway.machine.attempts("billing"))[0]).toMatchObject({ outcome: "throttled", attempt: 1 });
      const [platform] = await railway.database.rows<{ seconds: number }>(
        `select extract(epoch from throttled_until - clock_timestamp())::float8 as seconds from osp_metadata.platforms where name = 'railway'`,
      );
      expect(platform?.seconds).toBeGreaterThan(20);
      const asked = railway.fake.journal.requests.length;
      await railway.machine.insert("other");
      const other = railway.machine.start();
      await other.event("deployer.started");
      await eventually(() => Promise.resolve(other.output()), (output) => output.includes("railway.failing"));
      expect(await registryOf(railway.database, "other")).toMatchObject([{
        deployment_status: "pending",
        lease_owner: null,
      }]);
      expect(railway.fake.journal.requests).toHaveLength(asked);
    });

    test("the budget that all deployers share is used up: what waits goes on in the next hour", async () => {
      railway.machine.start({ OSP_RAILWAY_REQUESTS_PER_HOUR: "10" });
      railway.machine.start({ OSP_RAILWAY_REQUESTS_PER_HOUR: "10" });
      await railway.machine.insert("one");
      await railway.machine.insert("two");
      const rows = async () =>
        (await Promise.all(["one", "two"].map((name) => registryOf(railway.database, name)))).flat();
      const isSettled = (all: RegistryRow[]) =>
        all.every(({ deployment_status, error_code }) =>
          deployment_status === "deployed" ||
          (deployment_status === "pending" && error_code === "request_budget_used_up")
        );
      let hours = 0;
      for (; hours < 10; hours++) {
        const before = hours === 0 ? 0 : railway.fake.journal.requests.length;
        if ((await eventually(rows, isSettled)).every(({ deployment_status }) => deployment_status === "deployed")) {
          break;
        }
        expect(railway.fake.journal.requests.length - before).toBeLessThanOrEqual(10);
        await railway.database.rows(
          `update osp_metadata.platforms set window_started_at = clock_timestamp() - interval '1 hour'`,
        );
        await railway.database.rows(
          `update osp_metadata.worker_registry set next_attempt_at = null, error_code = null where deployment_status = 'pending'`,
        );
      }
      expect(hours).toBeGreaterThan(0);
      expect(hours).toBeLessThan(10);
      for (const { outcome } of [...await railway.machine.attempts("one"), ...await railway.machine.attempts("two")]) {
        expect(["throttled", "deployed", null]).toContain(outcome);
      }
    });

    test("a token that is refused pauses the platform, and it goes on when the token is good again", async () => {
      const deployer = railway.machine.start();
      await deployer.event("railway.ready");
      const restore = railway.fake.operator.revoke(railway.fake.tokens.workspace);
      await railway.machine.insert("billing");
      const paused = await eventually(
        () =>
          railway.database.rows<{ pause_reason: string | null }>(
            `select * from osp_metadata.platforms where name = 'railway'`,
          ),
        ([platform]) => platform?.pause_reason !== null,
      );
      expect(paused[0]?.pause_reason).toMatch(/RAILWAY_API_TOKEN/);
      await railway.machine.insert("other");
      restore();
      await railway.machine.deployed("billing");
      await railway.machine.deployed("other");
      expect((await railway.machine.attempts("billing")).map(({ outcome }) => outcome)).toEqual([
        "deferred",
        "deployed",
      ]);
      await deployer.event("platform.resumed");
    });

    test("an upload that is too large fails at once", async () => {
      railway.machine.start();
      railway.fake.faults.add({ on: "up", ...troubles.tooLarge(), times: 3 });
      await railway.machine.insert("billing");
      expect(await railway.machine.failed("billing")).toMatchObject({ error_code: "upload_too_large", retry_count: 0 });
    });
  });
}
