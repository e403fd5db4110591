import { existsSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { troubles } from "../../../local/railway/faults.ts";
import type { DeploymentStatus } from "../../../local/railway/world.ts";
import { onRailway, wrapCli } from "../../support/railway/deployers.ts";
import { scratchDirectory } from "../../support/railway/scratch.ts";
import type { UsedRailway } from "../../support/railway/use-railway.ts";
import { eventually, registryOf } from "../../support/services.ts";

const shortLease = { OSP_LEASE_SECONDS: "1", OSP_RENEW_SECONDS: "0.2" };
const longLease = { OSP_LEASE_SECONDS: "120", OSP_RENEW_SECONDS: "100" };
const builds = (times: number): DeploymentStatus[] => Array.from({ length: times }, () => "BUILDING" as const);

/** What becomes of a service when a deployer loses its right to it in the middle, with whichever CLI. */
export function testLeases(railway: UsedRailway): void {
  /** A CLI that stops at a call until it is let go on. `at`: a condition in sh. */
  function held(at: string, first = ":") {
    const marks = scratchDirectory();
    const wrapped = wrapCli(
      railway.cli,
      `if ${at} && [ ! -e '${marks}/gone' ]; then touch '${marks}/here'; ${first}; while [ -e '${marks}/here' ]; do sleep 0.05; done; fi`,
    );
    onTestFinished(wrapped.remove);
    return {
      path: wrapped.path,
      reached: () => eventually(() => Promise.resolve(existsSync(join(marks, "here"))), (isHere) => isHere),
      /** It goes on, and later calls do not stop. */
      letGo() {
        writeFileSync(join(marks, "gone"), "");
        rmSync(join(marks, "here"));
      },
    };
  }
  const isUp = `[ "$1" = up ]`;
  const disable = async () => {
    await railway.database.rows(`update osp.services set enabled = false`);
    await railway.machine.ringBell();
  };
  const statusOf = async (revision: number) =>
    (await registryOf(railway.database, "billing")).find((row) => row.revision === revision)?.deployment_status;
  const reaches = (revision: number, status: string) => eventually(() => statusOf(revision), (is) => is === status);
  const expireLeases = () =>
    railway.database.rows(
      `update osp_metadata.worker_registry set lease_expires_at = clock_timestamp() - interval '1 s' where lease_token is not null`,
    );

  describe("an upload whose deployer lost its lease", () => {
    test("is ended when the service was disabled meanwhile", async () => {
      const { machine, fake } = railway;
      const cli = held(isUp, "kill -STOP $PPID");
      const paused = machine.start({ ...shortLease, RAILWAY_CLI_PATH: cli.path });
      await machine.insert("billing");
      await cli.reached();
      await disable();
      machine.start(shortLease);
      await reaches(2, "stopped");
      cli.letGo(); // it goes on alone: its deployer is stopped, not dead
      await eventually(() => Promise.resolve(onRailway(fake, "billing").deployments.length), (count) => count === 1);
      paused.process.kill("SIGCONT");
      await paused.event("lease.lost");
      expect(onRailway(fake, "billing").deployments).toMatchObject([{ status: "REMOVED" }]);
    });

    test("is ended when a newer revision has taken over", async () => {
      const { machine, fake, database } = railway;
      const cli = held(isUp);
      machine.start({ ...shortLease, RAILWAY_CLI_PATH: cli.path });
      fake.plans.next("billing", builds(500));
      await machine.insert("billing");
      await cli.reached();
      await database.rows(`update osp.services set service_name = 'Newer'`);
      await machine.ringBell();
      await eventually(
        () =>
          database.rows<{ stop: unknown }>(
            `select stop_requested_at as stop from osp_metadata.worker_registry where revision = 1`,
          ),
        ([row]) => row?.stop !== null,
      );
      cli.letGo();
      await machine.deployed("billing", 2);
      const { deployments, running } = onRailway(fake, "billing");
      expect(deployments[0]?.status).toBe("REMOVED");
      expect(running).toHaveLength(1);
    });

    test("is ended when the newer revision is a disable that waits for it", async () => {
      const { machine, fake } = railway;
      const cli = held(isUp);
      machine.start({ ...shortLease, RAILWAY_CLI_PATH: cli.path });
      fake.plans.next("billing", builds(500));
      await machine.insert("billing");
      await cli.reached();
      await disable();
      await eventually(
        async () => (await registryOf(railway.database, "billing"))[0]?.logs ?? "",
        (logs) => logs.includes("superseded by revision 2"),
      );
      cli.letGo();
      await reaches(2, "stopped");
      expect(onRailway(fake, "billing").deployments).toMatchObject([{ status: "REMOVED" }]);
    });
  });

  test("a stop whose lease is lost ends nothing that was begun since", async () => {
    const { machine, fake, database } = railway;
    machine.start();
    await machine.insert("billing");
    await machine.deployed("billing");
    await machine.stopAll();
    // It looks for what is to be ended while the service is enabled again, by another deployer.
    const cli = held(`case "$2" in *ServiceDeployments*) true;; *) false;; esac`);
    const slow = machine.start({ ...longLease, RAILWAY_CLI_PATH: cli.path });
    await disable();
    await cli.reached();
    await expireLeases();
    machine.start();
    await reaches(2, "stopped");
    await database.rows(`update osp.services set enabled = true`);
    await machine.ringBell();
    await machine.deployed("billing", 3);
    cli.letGo();
    await slow.event("lease.lost");
    expect(onRailway(fake, "billing").running).toHaveLength(1);
    expect(await statusOf(3)).toBe("deployed");
  });

  test("a service that was made when the lease was lost already does not stay", async () => {
    const { machine, fake } = railway;
    const cli = held(`case "$2" in *CreateService*) true;; *) false;; esac`);
    const slow = machine.start({ ...longLease, RAILWAY_CLI_PATH: cli.path });
    await machine.insert("billing");
    await cli.reached();
    await expireLeases();
    machine.start();
    await machine.deployed("billing");
    cli.letGo();
    await slow.event("lease.lost");
    expect(onRailway(fake, "billing")).toMatchObject({ services: [{}], running: [{}] });
  });

  test("a double is removed by the first revision that comes to serve", async () => {
    const { machine, fake } = railway;
    fake.faults.add({ on: "serviceCreate", ...troubles.twice() });
    fake.plans.next("*", ["FAILED"]);
    machine.start();
    await machine.insert("billing");
    await machine.failed("billing");
    await railway.redeploy("billing");
    await machine.deployed("billing", 2);
    expect(onRailway(fake, "billing").services).toHaveLength(1);
  });

  test("a deployer that claims its own lost deployment again goes on with it", async () => {
    const { machine, fake, database } = railway;
    fake.plans.next("billing", [...builds(8), "SUCCESS"]);
    machine.start({ OSP_RAILWAY_POLL_SECONDS: "0.5", OSP_RAILWAY_POLL_CAP_SECONDS: "0.5" });
    await machine.insert("billing");
    await machine.row("billing", ({ logs }) => /Railway deployment \S+ begins/.test(logs));
    // As often as it is quicker to renew the lease than to claim.
    const isTakenOver = async () => {
      await database.rows(
        `update osp_metadata.worker_registry set lease_expires_at = clock_timestamp() - interval '1 s'
         where lease_token is not null and claimed_at = started_at`,
      );
      return (await database.rows(`select from osp_metadata.worker_registry where claimed_at <> started_at`)).length >
        0;
    };
    await eventually(isTakenOver, (isIt) => isIt);
    await machine.deployed("billing");
    expect((await machine.attempts("billing")).map(({ outcome }) => outcome)).toEqual(["abandoned", "deployed"]);
    expect(onRailway(fake, "billing")).toMatchObject({ services: [{}], deployments: [{ status: "SUCCESS" }] });
  });

  test("a deployer that is to end does not wait for a poll that Railway leaves without an answer", async () => {
    const { machine, fake } = railway;
    const deployer = machine.start({ OSP_SHUTDOWN_SECONDS: "0.5", OSP_RAILWAY_CALL_TIMEOUT_SECONDS: "120" });
    fake.plans.next("billing", builds(500));
    const never = Promise.withResolvers<void>();
    onTestFinished(() => never.resolve());
    fake.faults.add({ on: "Deployments", times: 10, ...troubles.late(never.promise) });
    await machine.insert("billing");
    await eventually(() => Promise.resolve(railway.operations()), (asked) => asked.includes("Deployments"));
    expect(await deployer.stop()).toBe(0);
    expect(await machine.row("billing", (row) => row.deployment_status === "pending")).toMatchObject({
      logs: expect.stringContaining("handed back"),
    });
    expect(readdirSync(machine.temporary)).toEqual([]);
  });

  test("a deployment made by hand between variables and upload is not taken for ours", async () => {
    const { machine, fake, database } = railway;
    machine.start();
    await machine.insert("billing");
    await machine.deployed("billing");
    await machine.stopAll();
    const cli = wrapCli(railway.cli, `if [ "$1" = up ]; then kill -9 $PPID; exit 1; fi`);
    onTestFinished(cli.remove);
    const killed = machine.start({ ...shortLease, RAILWAY_CLI_PATH: cli.path });
    await database.rows(`update osp.services set service_name = 'N'`);
    await machine.ringBell();
    await eventually(() => Promise.resolve(killed.process.signalCode), (signal) => signal === "SIGKILL");
    const byHand = fake.operator.redeploy("billing");
    fake.operator.moveTo(byHand.id, "SUCCESS");
    // Temporal would show that it is the older revision; here nobody answers, so it is neither taken up nor ended.
    machine.start({ OSP_READINESS: "temporal", TEMPORAL_ADDRESS: "127.0.0.1:9", OSP_READINESS_TIMEOUT_SECONDS: "1" });
    await machine.row("billing", (row) => row.revision === 2 && row.error_code === "not_polling");
    expect(byHand.status).toBe("SUCCESS");
  });

  test("stopping ends every deployment that is up or may come up", async () => {
    const { machine, fake } = railway;
    machine.start();
    await machine.insert("billing");
    await machine.deployed("billing");
    const stale = fake.operator.redeploy("billing");
    const newest = fake.operator.redeploy("billing");
    fake.operator.moveTo(newest.id, "SUCCESS");
    fake.operator.moveTo(stale.id, "BUILDING"); // where a younger one does not end an older build
    await disable();
    await reaches(2, "stopped");
    expect(onRailway(fake, "billing")).toMatchObject({ running: [], pending: [] });
  });
}
