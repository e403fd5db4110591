import { chmodSync, closeSync, copyFileSync, openSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { troubles } from "../../../local/railway/faults.ts";
import { log } from "../../../local/railway/lifecycle.ts";
import type { DeploymentStatus } from "../../../local/railway/world.ts";
import { onRailway } from "../../support/railway/deployers.ts";
import type { UsedRailway } from "../../support/railway/use-railway.ts";
import { eventually, registryOf } from "../../support/services.ts";

const builds = (times: number): DeploymentStatus[] => Array.from({ length: times }, () => "BUILDING" as const);
const json = { "content-type": "application/json" };
const refusal = (message: string, path: string[]) => ({
  answer: { status: 200, headers: json, body: JSON.stringify({ data: null, errors: [{ message, path }] }) },
});

/** Faults of what surrounds a deployment: they use up nobody's attempts, and hold up nobody else. With whichever CLI. */
export function testSite(railway: UsedRailway): void {
  const platform = async () => {
    const [row] = await railway.database.rows<{ paused_at: unknown; pause_reason: string | null }>(
      `select * from osp_metadata.platforms where name = 'railway'`,
    );
    return row;
  };
  const statuses = async (schemas: string[]) =>
    (await Promise.all(schemas.map((schema) => registryOf(railway.database, schema)))).flat();

  describe("the CLI", () => {
    test("that is being replaced, or gone for a moment, is waited for", async () => {
      const { machine, cli } = railway;
      const own = join(machine.temporary, "railway");
      copyFileSync(cli, own);
      chmodSync(own, 0o755);
      await machine.start({ RAILWAY_CLI_PATH: own }).event("railway.ready");
      const writing = openSync(own, "r+"); // text file busy, where it is a binary
      renameSync(own, `${own}.old`);
      await machine.insert("billing");
      const row = await machine.row("billing", ({ error_code }) => error_code === "railway_cli_missing");
      expect(row).toMatchObject({ retry_count: 0, error_message: expect.stringContaining("install the Railway CLI") });
      closeSync(writing);
      renameSync(`${own}.old`, own);
      expect(await machine.deployed("billing")).toMatchObject({ retry_count: 0 });
    });
  });

  describe("a fault that everything meets", () => {
    test("a certificate that is not trusted any more pauses the platform, until it is mended", async () => {
      const { machine, fake } = railway;
      const authority = join(machine.temporary, "ca.pem");
      copyFileSync(fake.environment.SSL_CERT_FILE, authority);
      const deployer = machine.start({ SSL_CERT_FILE: authority });
      await deployer.event("railway.ready");
      writeFileSync(authority, "");
      await machine.insert("one");
      await machine.insert("two");
      await eventually(platform, (row) => row?.paused_at !== null);
      expect((await platform())?.pause_reason).toMatch(/certificate.*SSL_CERT_FILE/);
      copyFileSync(fake.environment.SSL_CERT_FILE, authority);
      for (const schema of ["one", "two"]) expect(await machine.deployed(schema)).toMatchObject({ retry_count: 0 });
    });

    test("a deployer with a token that is refused leaves the others to their work", async () => {
      const { machine, fake } = railway;
      const good = machine.start({ RAILWAY_API_TOKEN: fake.tokens.account });
      const bad = machine.start({ OSP_RAILWAY_PROBE_SECONDS: "600" });
      await Promise.all([good.event("railway.ready"), bad.event("railway.ready")]);
      fake.operator.revoke(fake.tokens.workspace);
      const schemas = Array.from({ length: 8 }, (_, index) => `service_${index}`);
      for (const schema of schemas) await machine.insert(schema);
      for (const schema of schemas) expect(await machine.deployed(schema)).toMatchObject({ retry_count: 0 });
      const paused = bad.output().split(`"event":"platform.paused"`).length - 1;
      expect(paused).toBeLessThanOrEqual(1);
    });

    test("an upload that is refused for its token does not fail its row", async () => {
      const { machine, fake } = railway;
      fake.faults.add({ on: "up", answer: { status: 401, headers: json, body: `{"message":"Not Authorized"}` } });
      machine.start();
      await machine.insert("billing");
      // The token is good for all else: so this one service is kept from us.
      expect(await machine.failed("billing")).toMatchObject({ error_code: "railway_access_denied" });
    });
  });

  describe("a fault of one thing", () => {
    test("a deployment that Railway keeps from us fails alone, not with all that are asked for with it", async () => {
      const { machine, fake } = railway;
      const schemas = ["one", "two", "three"];
      for (const schema of schemas) fake.plans.next(schema, builds(500));
      machine.start({ OSP_CONCURRENCY: "10" });
      for (const schema of schemas) await machine.insert(schema);
      await eventually(() => Promise.resolve(fake.world.deployments.size), (count) => count === 3);
      fake.faults.add({ on: "Deployments", ...refusal("Not Authorized", ["d0"]) });
      const isOver = (rows: { error_code: string | null }[]) => rows.some(({ error_code }) => error_code !== null);
      const rows = await eventually(() => statuses(schemas), isOver);
      const failed = rows.filter(({ deployment_status }) => deployment_status === "failed");
      expect(failed).toMatchObject([{ error_code: "railway_access_denied" }]);
      expect(rows.filter(({ deployment_status }) => deployment_status === "deploying")).toHaveLength(2);
    });

    test("Railway's own fault with one request uses up that row's attempts alone", async () => {
      const { machine, fake } = railway;
      machine.start();
      fake.faults.add({ on: "serviceInstanceUpdate", times: 1000, ...troubles.serverError() });
      await machine.insert("billing");
      expect(await machine.failed("billing")).toMatchObject({ retry_count: 2, error_code: "railway_server_error" });
    });

    test("an edge's page that speaks of certificates is an outage, and no fault of ours", async () => {
      const { machine, fake } = railway;
      await machine.start().event("railway.ready");
      const body = "<html><title>backboard.railway.com | 526: Invalid SSL certificate</title></html>";
      fake.faults.add({
        on: "Services",
        times: 2,
        answer: { status: 526, headers: { "content-type": "text/html" }, body },
      });
      await machine.insert("billing");
      const { retry_count } = await machine.deployed("billing");
      expect(retry_count).toBeLessThan(3);
      expect(await platform()).toMatchObject({ paused_at: null });
    });
  });

  test("a service just made that an upload does not see yet is waited for", async () => {
    const { machine, fake } = railway;
    const environments = { edges: [{ node: { id: fake.production.id, name: "production", canAccess: true } }] };
    const project = {
      ...{ id: fake.project.id, name: "p", workspaceId: fake.workspace.id, deletedAt: null, environments },
      ...{ workspace: { name: "OSP" }, buckets: { edges: [] }, services: { edges: [] } },
    };
    Object.assign(environments.edges[0]?.node ?? {}, { deletedAt: null, unmergedChangesCount: 0 });
    fake.faults.add({
      on: "Project",
      answer: { status: 200, headers: json, body: JSON.stringify({ data: { project } }) },
    });
    machine.start();
    await machine.insert("billing");
    expect(await machine.deployed("billing")).toMatchObject({ retry_count: 0 });
  });

  test("what Railway writes into a log is kept without what is secret in it", async () => {
    const { machine, fake } = railway;
    machine.start({
      OSP_RAILWAY_VARIABLES: '{"PAYMENT_KEY":"sk_live_verysecret"}',
      TEMPORAL_API_KEY: "temporal-secret",
    });
    fake.plans.next("billing", [...builds(4), "FAILED"]);
    await machine.insert("billing");
    const [deployment] = await eventually(
      () => Promise.resolve(onRailway(fake, "billing").deployments),
      (deployments) => deployments.length === 1,
    );
    if (deployment === undefined) throw new Error("no deployment");
    log(deployment, "build", "Error: cannot log in with sk_live_verysecret and temporal-secret");
    const row = await machine.failed("billing");
    expect(row.error_message).toContain("cannot log in with *** and ***");
    const written = JSON.stringify([row, await machine.attempts("billing")]);
    expect(written).toContain("***");
    expect(written).not.toMatch(/sk_live_verysecret|temporal-secret/);
  });

  test("builds that take their time hold up neither a stop nor other deployments", async () => {
    const { machine, fake, database } = railway;
    machine.start({ OSP_CONCURRENCY: "2" });
    await machine.insert("victim");
    await machine.deployed("victim");
    for (const schema of ["slow_1", "slow_2", "slow_3"]) {
      fake.plans.next(schema, builds(5000));
      await machine.insert(schema);
    }
    await eventually(() => Promise.resolve(fake.world.deployments.size), (count) => count === 4);
    await database.rows(`update osp.services set enabled = false where service_schema = 'victim'`);
    await machine.ringBell();
    await machine.row("victim", (row) => row.revision === 2 && row.deployment_status === "stopped");
    await machine.insert("quick");
    await machine.deployed("quick");
    expect(await statuses(["slow_1", "slow_2", "slow_3"])).toMatchObject([
      { deployment_status: "deploying" },
      { deployment_status: "deploying" },
      { deployment_status: "deploying" },
    ]);
  });

  test("a raised budget lets what waited for the next hour go on at once", async () => {
    const { machine } = railway;
    const few = machine.start({ OSP_RAILWAY_REQUESTS_PER_HOUR: "10" });
    const schemas = ["one", "two", "three"];
    for (const schema of schemas) await machine.insert(schema);
    await eventually(
      () =>
        railway.database.rows<{ used: number }>(
          `select window_requests as used from osp_metadata.platforms where name = 'railway'`,
        ),
      ([row]) => (row?.used ?? 0) >= 8,
    );
    await few.stop();
    machine.start({ OSP_RAILWAY_REQUESTS_PER_HOUR: "1000" });
    for (const schema of schemas) await machine.deployed(schema);
  });

  test("no more requests a second than are allowed", async () => {
    const { machine } = railway;
    const perSecond = 4;
    const startedAt = performance.now();
    machine.start({ OSP_CONCURRENCY: "10", OSP_RAILWAY_REQUESTS_PER_SECOND: String(perSecond) });
    for (const schema of ["one", "two"]) await machine.insert(schema);
    for (const schema of ["one", "two"]) await machine.deployed(schema);
    const seconds = (performance.now() - startedAt) / 1000;
    // `up` makes two at once.
    expect(railway.operations().length).toBeLessThanOrEqual(seconds * perSecond + 2);
  });

  describe("replicas", () => {
    test("that somebody set by region stay, where the operator says nothing", async () => {
      const { machine, fake } = railway;
      machine.start();
      await machine.insert("billing");
      await machine.deployed("billing");
      fake.operator.instance("billing").settings["multiRegionConfig"] = { "us-west2": { numReplicas: 3 } };
      await railway.redeploy("billing");
      await machine.deployed("billing", 2);
      expect(onRailway(fake, "billing").running[0]?.replicas).toHaveLength(3);
    });

    test("are as many as the operator wants, also where they were set by region", async () => {
      const { machine, fake } = railway;
      machine.start({ OSP_RAILWAY_REPLICAS: "1" });
      await machine.insert("billing");
      await machine.deployed("billing");
      fake.operator.instance("billing").settings["multiRegionConfig"] = { "us-west2": { numReplicas: 3 } };
      for (const revision of [2, 3]) {
        await railway.redeploy("billing");
        await machine.deployed("billing", revision);
      }
      expect(onRailway(fake, "billing").running[0]?.replicas).toHaveLength(1);
    });

    test("that do not stay up end the attempt; the next one builds anew, and the older revision is not said to run", async () => {
      const { machine, fake } = railway;
      machine.start({ OSP_MAX_ATTEMPTS: "2", OSP_RAILWAY_SETTLE_SECONDS: "1" });
      await machine.insert("billing");
      await machine.deployed("billing");
      const breaking = setInterval(() => {
        for (const { replicas } of onRailway(fake, "billing").running.filter(({ message }) => message?.endsWith("2"))) {
          for (const replica of replicas) replica.status = "RESTARTING";
        }
      }, 20);
      try {
        await railway.redeploy("billing");
        const row = await machine.row(
          "billing",
          ({ revision, deployment_status }) => revision === 2 && deployment_status === "failed",
        );
        expect(row).toMatchObject({ error_code: "replicas_down", retry_count: 1 });
        const uploads = onRailway(fake, "billing").deployments.filter(({ message }) => message?.endsWith("2"));
        expect(uploads).toHaveLength(2);
        expect((await registryOf(railway.database, "billing"))[0]).toMatchObject({ deployment_status: "stopped" });
      } finally {
        clearInterval(breaking);
      }
    });
  });
}
