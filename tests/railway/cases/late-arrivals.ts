import { describe, expect, onTestFinished, test } from "vitest";
import { troubles } from "../../../local/railway/faults.ts";
import { onRailway } from "../../support/railway/deployers.ts";
import type { UsedRailway } from "../../support/railway/use-railway.ts";
import { eventually, registryOf } from "../../support/services.ts";

const often = { OSP_PLATFORM_RECONCILE_SECONDS: "0.5" };
const shortLease = { OSP_LEASE_SECONDS: "1", OSP_RENEW_SECONDS: "0.2" };

/** What a killed deployer had sent, and what Railway does only when its successor is done. */
export function testLateArrivals(railway: UsedRailway): void {
  /** Kills a deployer at the request, and has a successor deploy. The function lets the request arrive. */
  async function killedWhileOnItsWay(field: string): Promise<() => void> {
    const { machine, fake } = railway;
    const arrival = Promise.withResolvers<void>();
    onTestFinished(() => arrival.resolve());
    fake.faults.add({ on: field, ...troubles.onItsWay(arrival.promise) });
    const killed = machine.start(shortLease);
    await machine.insert("billing");
    const isSent = () => Promise.resolve(fake.journal.requests.some(({ fields }) => fields.includes(field)));
    await eventually(isSent, (sent) => sent);
    await killed.kill();
    machine.start({ ...shortLease, ...often });
    await machine.deployed("billing");
    return () => arrival.resolve();
  }

  /** The service's newest row, with what is requested meanwhile enqueued. */
  const deployedAs = (revision: number) =>
    eventually(async () => {
      await railway.machine.ringBell();
      return (await registryOf(railway.database, "billing")).at(-1);
    }, (row) => row?.revision === revision && row.deployment_status === "deployed");

  describe("what a killed deployer had sent arrives when its successor is done", () => {
    test("an upload: what it replaced is deployed again", async () => {
      const { fake, database } = railway;
      const arrive = await killedWhileOnItsWay("up");
      const [before] = onRailway(fake, "billing").running;
      arrive();
      expect(await deployedAs(2)).toMatchObject({ source: "reconcile" });
      const { running, services } = onRailway(fake, "billing");
      expect(services).toHaveLength(1);
      expect(running).toHaveLength(1);
      expect(running).not.toContain(before);
      expect(await registryOf(database, "billing")).toMatchObject([
        {
          error_code: "service_lost",
          logs: expect.stringContaining("another deployment runs in its place on platform railway"),
        },
        { platform_deployment_id: running[0]?.id },
      ]);
    });

    test("a service: it does not stay beside the other", async () => {
      const { fake, database } = railway;
      const arrive = await killedWhileOnItsWay("serviceCreate");
      const [kept] = onRailway(fake, "billing").services;
      arrive();
      await eventually(() => Promise.resolve(onRailway(fake, "billing").services.length), (count) => count === 2);
      expect(await deployedAs(2)).toMatchObject({ source: "reconcile", platform_service_id: kept?.id });
      expect(onRailway(fake, "billing")).toMatchObject({ services: [{ id: kept?.id }], running: [{}] });
      expect((await registryOf(database, "billing"))[0]?.logs).toContain("it is on platform railway twice");
    });

    test("an upload, when the service was disabled since: nothing of it runs", async () => {
      const { machine, fake, database } = railway;
      const arrive = await killedWhileOnItsWay("up");
      await database.rows(`update osp.services set enabled = false`);
      await machine.ringBell();
      await machine.row("billing", (row) => row.revision === 2 && row.deployment_status === "stopped");
      arrive();
      await eventually(() => Promise.resolve(onRailway(fake, "billing").deployments.length), (count) => count === 2);
      await eventually(async () => {
        await machine.ringBell();
        return onRailway(fake, "billing");
      }, ({ running, pending }) => running.length + pending.length === 0);
    });
  });
}
