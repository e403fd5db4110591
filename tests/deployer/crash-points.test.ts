import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { useDatabase } from "../support/database.ts";
import { createMachine } from "../support/deployer.ts";
import { createTestHandler, ring } from "../support/edge-function.ts";
import { type Fault, faultEnvironment } from "../support/faults.ts";
import { eventually, insertService, registryOf } from "../support/services.ts";
import { startTemporalServer, type TemporalServer } from "../support/temporal-server.ts";

const database = useDatabase();
const handler = createTestHandler(database);
let temporal: TemporalServer;
let machine: ReturnType<typeof createMachine>;
beforeAll(async () => void (temporal = await startTemporalServer()));
afterAll(() => temporal.stop());
beforeEach(() => void (machine = createMachine(database, () => temporal.address)));
afterEach(() => machine.clear());

/**
 * Few calls by the clock, for each is a run: what there is to do is told by notification, and a lease is long enough for a
 * busy machine; that of a killed deployer is ended by hand.
 */
const quiet = {
  OSP_LEASE_SECONDS: "30",
  OSP_RENEW_SECONDS: "8",
  OSP_POLL_SECONDS: "600",
  OSP_SWEEP_SECONDS: "600",
  OSP_PLATFORM_RECONCILE_SECONDS: "600",
};
const healthy = { OSP_LEASE_SECONDS: "30", OSP_RENEW_SECONDS: "8" };

/** A whole run makes about forty; the one in which nobody is killed any more ends the count. */
const MOST_CALLS = 100;

/** The time after which what a killed deployer had may be claimed. */
const leasesEnd = () =>
  database.rows(
    `update osp_metadata.worker_registry set lease_expires_at = clock_timestamp() where lease_expires_at > clock_timestamp()`,
  );

interface Attempt {
  outcome: string | null;
  deployer: string;
  error_message: string | null;
}

/** A service from its row to its worker, to its next worker and away again, with a deployer that comes to the fault on the way. */
async function live(schema: string, fault: Fault): Promise<"killed" | "completed"> {
  await insertService(database, schema);
  await handler(ring());
  const environment = { OSP_DRAIN_SECONDS: "0" };
  let deployer = machine.start({ ...environment, ...quiet, ...faultEnvironment(fault) });
  const dies = () => deployer.process.signalCode === "SIGKILL";
  const killed: string[] = [];
  /** Whoever is killed on the way has a successor, once its leases have ended. */
  const reaches = <Answer>(ask: () => Promise<Answer>, satisfies: (answer: Answer) => boolean) =>
    eventually(async () => {
      if (dies()) {
        killed.push(`:${deployer.process.pid}`);
        await leasesEnd();
        deployer = machine.start({ ...environment, ...healthy });
      }
      return await ask();
    }, satisfies);
  /** The newest revision has come to this. */
  const ends = (revision: number, status: string) =>
    reaches(
      async () => (await registryOf(database, schema)).at(-1),
      (row) => row?.revision === revision && row.deployment_status === status,
    );
  const workers = () => machine.workers();

  await ends(1, "deployed");
  const [first] = await reaches(workers, (pids) => pids.length === 1);
  await database.rows(`update osp.services set service_name = 'Changed' where service_schema = $1`, [schema]);
  await handler(ring());
  await ends(2, "deployed");
  await reaches(workers, (pids) => pids.length === 1 && pids[0] !== first);
  await database.rows(`delete from osp.services where service_schema = $1`, [schema]);
  await handler(ring());
  await ends(3, "stopped");
  await reaches(workers, (pids) => pids.length === 0);
  await deployer.stop();
  if (dies()) killed.push(`:${deployer.process.pid}`);

  expect(await registryOf(database, schema)).toMatchObject([1, 2, 3].map(() => ({ deployment_status: "stopped" })));
  const attempts = await database.rows<Attempt>(
    `select outcome, deployer, error_message from osp_metadata.deployment_attempts where service_schema = $1 order by id`,
    [schema],
  );
  const [abandoned, others] = [
    attempts.filter(({ outcome }) => outcome === "abandoned"),
    attempts.filter(({ outcome }) => outcome !== "abandoned"),
  ];
  expect(others.map(({ outcome }) => outcome)).toEqual(["deployed", "deployed", "stopped"]);
  for (const { deployer: holder, error_message } of abandoned) {
    expect(killed.some((pid) => holder.endsWith(pid))).toBe(true);
    expect(error_message).toBe(`Deployer ${holder} went away`);
  }
  return killed.length > 0 ? "killed" : "completed";
}

/** Kills at every call until a run completes; the number of calls of such a run. */
async function sweep(fault: Pick<Fault, "port" | "when" | "match">): Promise<number> {
  for (let call = 1; call <= MOST_CALLS; call++) {
    const end = await live(`${fault.port}_${fault.when}_${call}`, { ...fault, call, signal: "SIGKILL" });
    if (end === "completed") return call - 1;
  }
  throw new Error(`A run does not complete within ${MOST_CALLS} calls`);
}

// After a call that only reads nothing is other than before the next one.
const writes = { match: "update osp_metadata" };

test.each<[Pick<Fault, "port" | "when" | "match">, number]>([
  [{ port: "registry", when: "before" }, 20],
  [{ port: "registry", when: "after", ...writes }, 13],
  [{ port: "platform", when: "before" }, 12],
  [{ port: "platform", when: "after" }, 12],
])("a deployer killed at its n-th call, for every n: %o", async (fault, least) => {
  expect(await sweep(fault)).toBeGreaterThanOrEqual(least);
}, 1_800_000);
