import { mkdirSync, writeFileSync } from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, onTestFinished, test } from "vitest";
import { useDatabase } from "../support/database.ts";
import { createMachine } from "../support/deployer.ts";
import { createTestHandler, ring } from "../support/edge-function.ts";
import { clearServices, eventually, insertService, registryOf } from "../support/services.ts";
import { startProxy } from "../support/database-proxy.ts";
import { startTemporalServer, type TemporalServer } from "../support/temporal-server.ts";
import { freePort } from "../../host/free-port.ts";

const database = useDatabase();
const handler = createTestHandler(database);
let machine: ReturnType<typeof createMachine>;
let temporal: TemporalServer | undefined;
let temporalPort: number;
beforeEach(async () => {
  temporalPort = await freePort();
  machine = createMachine(database, () => `127.0.0.1:${temporalPort}`);
});
afterEach(async () => {
  await machine.clear();
  await temporal?.stop();
  temporal = undefined;
  await clearServices(database);
});

async function request(schema: string): Promise<void> {
  await insertService(database, schema);
  await handler(ring());
}
const rowOf = async (schema: string) => (await registryOf(database, schema)).at(-1);
const reaches = (schema: string, status: string) =>
  eventually(() => rowOf(schema), (row) => row?.deployment_status === status);

test("workers outlive a killed deployer and are adopted, not doubled", async () => {
  temporal = await startTemporalServer(temporalPort);
  const first = machine.start();
  await request("kept");
  await reaches("kept", "deployed");
  const before = await machine.workers();
  await first.kill();
  expect(await machine.workers()).toEqual(before);
  const second = machine.start();
  await second.event("worker.adopted");
  expect(await machine.workers()).toEqual(before);
  expect(await second.stop()).toBe(0);
  expect(await machine.workers()).toEqual(before);
});

test("a deployment whose deployer is killed goes on with the same worker process", async () => {
  const first = machine.start();
  await request("orphaned");
  // Written down by then. One that is not is ended by the successor, and another started.
  await first.event("worker.started");
  const [worker] = await machine.workers();
  await first.kill();
  temporal = await startTemporalServer(temporalPort);
  machine.start();
  await reaches("orphaned", "deployed");
  expect(await machine.workers()).toEqual([worker]);
  expect(await database.rows(`select attempt, outcome from osp_metadata.deployment_attempts order by id`)).toEqual([{
    attempt: 1,
    outcome: "abandoned",
  }, { attempt: 1, outcome: "deployed" }]);
});

test.each([
  ["a newer revision", `update osp.services set service_name = 'Newer'`, "deployed"],
  ["a delete", `delete from osp.services`, "stopped"],
])(
  "a deployment whose deployer is killed ends at %s, and the history says who held what",
  async (_title, statement, end) => {
    const first = machine.start(); // Temporal is away: the deployment lasts
    await request("overtaken");
    await first.event("worker.started");
    await first.kill();
    await database.rows(statement);
    await handler(ring());
    temporal = await startTemporalServer(temporalPort);
    const second = machine.start();
    expect(await reaches("overtaken", end)).toMatchObject({ revision: 2 });
    const [killed, successor] = [first, second].map(({ process: { pid } }) => `${hostname()}:${pid}`);
    expect(
      await database.rows(
        `select revision, deployer, outcome, error_message, ended_at is not null as has_ended
      from osp_metadata.deployment_attempts order by id`,
      ),
    ).toEqual([
      {
        revision: 1,
        deployer: killed,
        outcome: "abandoned",
        error_message: `Deployer ${killed} went away`,
        has_ended: true,
      },
      { revision: 1, deployer: successor, outcome: "superseded", error_message: null, has_ended: true },
      { revision: 2, deployer: successor, outcome: end, error_message: null, has_ended: true },
    ]);
    await eventually(() => machine.workers(), (pids) => pids.length === (end === "deployed" ? 1 : 0));
  },
);

test("a deployer that is told to stop hands its deployment back at once", async () => {
  const first = machine.start({ OSP_SHUTDOWN_SECONDS: "0.2" });
  await request("handed_on");
  await eventually(() => machine.workers(), (pids) => pids.length === 1);
  expect(await first.stop()).toBe(0);
  expect(await rowOf("handed_on")).toMatchObject({
    deployment_status: "pending",
    logs: expect.stringContaining("handed back"),
  });
  temporal = await startTemporalServer(temporalPort);
  machine.start();
  expect(await reaches("handed_on", "deployed")).toMatchObject({ retry_count: 0 });
});

test("Temporal away when the worker starts costs time, not an attempt", async () => {
  machine.start({ OSP_DEPLOY_TIMEOUT_SECONDS: "2" });
  await request("patient");
  await eventually(
    () => database.rows(`select from osp_metadata.deployment_attempts where outcome = 'deferred'`),
    (rows) => rows.length >= 1,
  );
  temporal = await startTemporalServer(temporalPort);
  expect(await reaches("patient", "deployed")).toMatchObject({ retry_count: 0 });
});

test("a worker that dies before it is ready is tried three times, then the row fails", async () => {
  machine.start();
  await request("doomed");
  const killed = new Set<number>();
  const row = await eventually(async () => {
    // One that is dying may still be listed.
    for (const pid of (await machine.workers()).filter((candidate) => !killed.has(candidate))) {
      process.kill(pid, "SIGKILL");
      killed.add(pid);
    }
    return await rowOf("doomed");
  }, (current) => current?.deployment_status === "failed");
  expect(row).toMatchObject({ error_code: "worker_exited", retry_count: 2 });
  expect(killed.size).toBe(3);
  expect(await database.rows(`select attempt, outcome, error_class from osp_metadata.deployment_attempts order by id`))
    .toEqual([
      { attempt: 1, outcome: "retry", error_class: "transient" },
      { attempt: 2, outcome: "retry", error_class: "transient" },
      { attempt: 3, outcome: "failed", error_class: "transient" },
    ]);
});

test("a second deployer of the host stands by, and takes over when the first is killed", async () => {
  temporal = await startTemporalServer(temporalPort);
  const first = machine.start();
  await first.event("supervision.gained");
  const second = machine.start();
  await second.event("supervision.standby");
  await first.kill();
  await second.event("supervision.gained");
  await request("taken_over");
  await reaches("taken_over", "deployed");
});

test("a deployer whose network swallows everything lets go of its work, and another takes over", async () => {
  const proxy = await startProxy(database.deployerUrl);
  onTestFinished(() => proxy.close());
  // Temporal is away: the deployment lasts.
  const first = machine.start({ DATABASE_URL: proxy.url });
  await request("stranded");
  await first.event("worker.started");
  const second = machine.start();
  await second.event("supervision.standby");
  proxy.freeze();
  await first.event("supervision.lost");
  // Whichever ran out first: what it had in hand is given up, and what it would write about it does not get through.
  await eventually(() => Promise.resolve(first.output()), (text) => /"event":"(lease.lost|settle.failed)"/.test(text));
  proxy.cut(); // the server's keepalive would find it out by itself
  await second.event("supervision.gained");
  temporal = await startTemporalServer(temporalPort);
  await reaches("stranded", "deployed");
  expect(await machine.workers()).toHaveLength(1);
  expect(await first.stop()).toBe(0);
  expect(await rowOf("stranded")).toMatchObject({ deployment_status: "deployed", retry_count: 0 });
});

test("a deployer of another host refuses and names the one that supervises", async () => {
  const client = await database.connect();
  await client.query(`select pg_advisory_lock(hashtext('osp supervisor'), hashtext('local'))`);
  await client.query(`update osp_metadata.platforms set supervisor = 'another-host:17' where name = 'local'`);
  const deployer = machine.start();
  await eventually(() => Promise.resolve(deployer.process.exitCode), (code) => code !== null);
  expect(deployer.process.exitCode).toBe(78);
  expect(deployer.output()).toContain("another-host:17");
  await client.query(`update osp_metadata.platforms set supervisor = $1 where name = 'local'`, [`${hostname()}:1`]);
  await client.end();
});

test("a worker's record that cannot be read is set aside, and keeps no other service from being deployed", async () => {
  temporal = await startTemporalServer(temporalPort);
  mkdirSync(join(machine.stateDirectory, "workers", "broken"), { recursive: true });
  writeFileSync(join(machine.stateDirectory, "workers", "broken", "1.json"), "");
  machine.start();
  await request("unharmed");
  await reaches("unharmed", "deployed");
  expect(machine.workerFiles("broken")).toEqual(["1.json.unreadable"]);
});
