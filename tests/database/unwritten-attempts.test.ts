import { beforeEach, expect, onTestFinished, test } from "vitest";
import type { Claim } from "../../deployer/claim.ts";
import { createRegistry } from "../../deployer/registry.ts";
import { useDatabase } from "../support/database.ts";
import { createTestHandler, ring } from "../support/edge-function.ts";
import { untilBlocked } from "../support/locks.ts";
import { clearServices, insertService } from "../support/services.ts";

// An attempt is written down by its first report; what comes before that must not be forgotten.
const database = useDatabase();
const handler = createTestHandler(database);
const pool = database.deployerPool(2);
const deployerOf = (owner: string) =>
  createRegistry(pool, { owner, platform: "local", leaseSeconds: 10, renewTimeoutMs: 5000 });
const deployer = deployerOf("a");
beforeEach(async () => {
  await clearServices(database);
  await insertService(database, "s");
  await handler(ring());
});

async function claimBy(registry = deployer): Promise<Claim> {
  const [claim, ...more] = await registry.claim(5);
  if (claim === undefined || more.length > 0) throw new Error("There was not one deployment to claim");
  return claim;
}
const leaseEnds = () => database.rows(`update osp_metadata.worker_registry set lease_expires_at = clock_timestamp()`);
const attempts = () =>
  database.rows(
    `select a.attempt, a.deployer, a.step, a.outcome, a.error_message, a.started_at = r.claimed_at as began_with_claim, a.id = r.attempt_id as is_newest
     from osp_metadata.deployment_attempts as a
     inner join osp_metadata.worker_registry as r on r.id = a.deployment_id
     order by a.id`,
  );
const handedBack = { outcome: "handed_back", reason: "a test" } as const;

test("the first report writes an attempt down as of its claim, later ones how far it has come", async () => {
  const claim = await claimBy();
  expect(await attempts()).toEqual([]);
  expect(await deployer.report(claim, "staging", "one")).toBe(true);
  const attempt = {
    attempt: 1,
    deployer: "a",
    outcome: null,
    error_message: null,
    began_with_claim: true,
    is_newest: true,
  };
  expect(await attempts()).toEqual([{ ...attempt, step: "staging" }]);
  await Promise.all([deployer.report(claim, "deploying", "two"), deployer.report(claim, "deploying", "three")]);
  expect(await attempts()).toEqual([{ ...attempt, step: "deploying" }]);
});

test("a report that waits for its row, which is changed meanwhile, begins one attempt", async () => {
  const claim = await claimBy();
  const editor = await database.connect();
  onTestFinished(() => editor.end());
  await editor.query(`begin; update osp_metadata.worker_registry set stop_requested_at = now()`);
  const reported = deployer.report(claim, "deploying", "a line");
  await untilBlocked(database, editor);
  await editor.query("commit");
  expect(await reported).toBe(true);
  expect(await attempts()).toMatchObject([{ step: "deploying", outcome: null, is_newest: true }]);
});

test("what is left is written down and ended once, however often a claim works out what it writes", async () => {
  const claim = await claimBy();
  await leaseEnds();
  const [said] = await database.rows<{ first: string; again: string }>(
    `select osp_metadata.abandon_attempts($1) as first, osp_metadata.abandon_attempts($1) as again`,
    [claim.id],
  );
  expect(said).toEqual({ first: "deployer a went away", again: "deployer a went away" });
  expect(await attempts()).toMatchObject([{ deployer: "a", outcome: "abandoned" }]);
});

test("one that ends without a report is written down all the same, once", async () => {
  const claim = await claimBy();
  expect(await deployer.settle(claim, handedBack)).toBe(true);
  expect(await attempts()).toMatchObject([{ attempt: 1, step: "claimed", outcome: "handed_back", is_newest: true }]);
  expect(await deployer.settle(claim, handedBack)).toBe(false);
  expect(await attempts()).toHaveLength(1);
});

test("who lost the lease before the first report writes nothing down", async () => {
  const claim = await claimBy();
  await leaseEnds();
  await claimBy(deployerOf("b"));
  expect(await deployer.report(claim, "deploying", "late")).toBe(false);
  expect(await deployer.settle(claim, handedBack)).toBe(false);
  expect(await attempts()).toMatchObject([{ deployer: "a", outcome: "abandoned" }]);
});

test("what a deployer died with before its first report is written down by who takes it over, and counts", async () => {
  for (const owner of ["a", "b", "c"]) {
    await claimBy(deployerOf(owner));
    await leaseEnds();
  }
  expect(await deployerOf("d").claim(5, false)).toEqual([]); // it is suspect
  const claim = await claimBy(deployerOf("d"));
  expect(claim).toMatchObject({ attempt: 1, abandoned: 3 });
  expect(await attempts()).toMatchObject(
    ["a", "b", "c"].map((owner) => ({
      attempt: 1,
      deployer: owner,
      step: "claimed",
      outcome: "abandoned",
      error_message: `Deployer ${owner} went away`,
    })),
  );
  const [row] = await database.rows<{ logs: string }>(`select logs from osp_metadata.worker_registry`);
  expect(row?.logs).toMatch(/claimed by d: deployer c went away$/);
});

test("what a deployer of before claims, with its attempt, is told from that", async () => {
  await claimBy();
  await leaseEnds();
  // As it did: it takes over, and writes down its own attempt at once.
  await database.rows(
    `update osp_metadata.worker_registry as r
     set lease_owner = 'before', lease_token = gen_random_uuid(), logs = osp_metadata.append_log(r.logs, osp_metadata.abandon_attempts(r.id))`,
  );
  await database.rows(
    `insert into osp_metadata.deployment_attempts (deployment_id, service_schema, revision, attempt, deployer)
     select r.id, r.service_schema, r.revision, 1, 'before' from osp_metadata.worker_registry as r`,
  );
  expect(await claimBy()).toMatchObject({ abandoned: 2 });
  expect(await attempts()).toMatchObject([
    { deployer: "a", outcome: "abandoned" },
    { deployer: "before", outcome: "abandoned" },
  ]);
});

test("attempts that count give the next one its number", async () => {
  const failure = { class: "transient", code: "a_reason", message: "A reason", facts: {} } as const;
  await deployer.settle(await claimBy(), { outcome: "retry", failure, delaySeconds: 0 });
  await deployer.settle(await claimBy(), handedBack);
  const claim = await claimBy();
  await deployer.report(claim, "deploying", "a line");
  expect(claim.attempt).toBe(2);
  expect(await attempts()).toMatchObject([
    { attempt: 1, outcome: "retry", is_newest: false },
    { attempt: 2, outcome: "handed_back", is_newest: false },
    { attempt: 2, outcome: null, is_newest: true },
  ]);
});
