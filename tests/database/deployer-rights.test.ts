import type pg from "pg";
import { beforeAll, beforeEach, expect, test } from "vitest";
import { createRegistry } from "../../deployer/registry.ts";
import { refusal, useDatabase } from "../support/database.ts";
import { createTestHandler, ring } from "../support/edge-function.ts";
import { useRoleLogins } from "../support/role-logins.ts";
import { insertService } from "../support/services.ts";

// What a deployer's login cannot do with rows that it may otherwise write, whatever its program does.
const database = useDatabase();
const logins = useRoleLogins(database, ["osp_deployer"]);
let deployer: pg.Client;

beforeAll(async () => {
  deployer = await logins.connect("osp_deployer");
});
beforeEach(async () => {
  await database.rows(`truncate osp.services, osp_metadata.service_intents, osp_metadata.worker_registry cascade`);
});

/** A service with a deployment of this deployer's, in hand. */
async function claimOne() {
  await insertService(database, "a_service");
  await createTestHandler(database)(ring());
  const registry = createRegistry(database.deployerPool(1), {
    owner: "a:1",
    platform: "local",
    leaseSeconds: 30,
    renewTimeoutMs: 5000,
  });
  const [claim] = await registry.claim(1);
  if (claim === undefined) throw new Error("There was nothing to claim");
  return { registry, claim };
}

const changed = async (sql: string) => (await deployer.query(sql)).rowCount;

test.each(["failed", "stopped"])("a deployment that ended as %s never reopens", async (status) => {
  const { registry, claim } = await claimOne();
  const failure = { class: "permanent", code: "a_reason", message: "A reason", facts: {} } as const;
  expect(
    await registry.settle(claim, status === "failed" ? { outcome: "failed", failure } : { outcome: "superseded" }),
  ).toBe(true);
  expect(await changed(`update osp_metadata.worker_registry set deployment_status = 'pending'`)).toBe(0);
  expect(await changed(`update osp_metadata.worker_registry set error_message = null, logs = null`)).toBe(0);
  expect(await database.rows(`select deployment_status from osp_metadata.worker_registry`)).toEqual([
    { deployment_status: status },
  ]);
});

test("an attempt that ended is not written again, the one that runs is", async () => {
  const { registry, claim } = await claimOne();
  await registry.report(claim, "deploying", "a line");
  expect(await changed(`update osp_metadata.deployment_attempts set step = 'staging'`)).toBe(1);
  await registry.settle(claim, { outcome: "handed_back", reason: "a test" });
  expect(
    await changed(`update osp_metadata.deployment_attempts set outcome = 'deployed', error_message = null`),
  ).toBe(0);
  expect(await database.rows(`select step, outcome from osp_metadata.deployment_attempts`)).toEqual([
    { step: "staging", outcome: "handed_back" },
  ]);
});

test("an attempt cannot be made up as ended, nor with a time or a number of its own", async () => {
  const { claim } = await claimOne();
  const insert = (columns: string, values: string) =>
    deployer.query(
      `insert into osp_metadata.deployment_attempts (deployment_id, service_schema, revision, attempt, deployer${columns})
       overriding system value values ('${claim.id}', 'a_service', 1, 9, 'b:2'${values})`,
    );
  expect(await refusal(insert(", ended_at, outcome", ", now(), 'deployed'"))).toMatchObject({ code: "42501" });
  expect(await refusal(insert(", started_at", ", '2020-01-01'"))).toMatchObject({ code: "42501" });
  expect(await refusal(insert(", id", ", 1"))).toMatchObject({ code: "42501" });
});

test("what was asked for is not the deployer's to say: neither the manifest nor who asked, nor the marker", async () => {
  await claimOne();
  for (
    const statement of [
      `update osp_metadata.worker_registry set manifest = '{}', manifest_sha256 = 'x'`,
      `update osp_metadata.worker_registry set service_schema = 'another'`,
      `update osp_metadata.worker_registry set revision = 7`,
      `update osp_metadata.worker_registry set requested_by = 'somebody'`,
      `update osp_metadata.worker_registry set created_at = '2020-01-01'`,
      `update osp_metadata.worker_registry set stop_requested_at = now()`,
      `update osp_metadata.platforms set instance = gen_random_uuid()`,
      `update osp_metadata.platforms set name = 'mine'`,
    ]
  ) expect({ statement, ...await refusal(deployer.query(statement)) }).toMatchObject({ statement, code: "42501" });
});
