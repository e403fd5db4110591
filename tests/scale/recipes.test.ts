import { afterAll, beforeAll, expect, inject, test } from "vitest";
import { fleetService, letWait } from "../support/fleet.ts";
import { readFilteredRecipes, RECIPE_SERVICE } from "../support/recipes.ts";
import { openExplained, readingOf } from "./plans.ts";

/** What is sure of a recipe, by a part of its text; what is not named here may read the rows of some weeks. */
const bounds: { part: string; rows: number }[] = [
  { part: "deployed_at, logs FROM osp_metadata.worker_registry WHERE service_schema", rows: 30 },
  { part: "where deployment_status = 'failed'", rows: 60 },
  // The rows of a week.
  { part: "group by error_code", rows: 12_000 },
  // The rows of a week, with an attempt or two each.
  { part: "order by total_took", rows: 40_000 },
  { part: "where a.deployment_id", rows: 30 },
  { part: "from osp_metadata.worker_status where service_schema", rows: 30 },
  // Who fell silent, and what is under way.
  { part: "where last_health_check <", rows: 4000 },
  // What waits, by the few look-ups that its state and its last error take, and of the 3000 that are to stop, who runs on.
  { part: "where state in", rows: 6000 },
];
const SOME_WEEKS = 60_000;
const WAITING = 100;

let session: Awaited<ReturnType<typeof openExplained>>;
beforeAll(async () => {
  session = await openExplained(inject("fleetUrl"), "postgres");
  const { client } = session;
  await client.query(`begin`);
  await client.query(`set local session_replication_role = replica`);
  await letWait(client, WAITING);
  for (
    const table of [
      "osp.services",
      "osp_metadata.service_intents",
      "osp_metadata.worker_registry",
      "osp_metadata.deployment_attempts",
    ]
  ) {
    await client.query(`update ${table} set service_schema = $2 where service_schema = $1`, [
      fleetService(42),
      RECIPE_SERVICE,
    ]);
  }
  await client.query(`set local session_replication_role = origin`);
  await client.query(`set local role osp_analyst`);
});
afterAll(async () => {
  await session.client.query(`rollback`);
  await session.close();
});

const questions = [
  ...readFilteredRecipes(),
  `select * from osp_metadata.worker_status where service_schema = '${RECIPE_SERVICE}'`,
];

test.each(questions)("a recipe goes by index: %s", async (sql) => {
  let found: number | null = 0;
  const reading = readingOf(await session.plansOf(async () => found = (await session.client.query(sql)).rowCount));
  expect(found).toBeGreaterThan(0);
  expect(reading).toMatchObject({ scanned: [], tempBlocks: 0 });
  expect(reading.rows).toBeLessThanOrEqual(bounds.find(({ part }) => sql.includes(part))?.rows ?? SOME_WEEKS);
});

test("every bound is one of a recipe", () => {
  expect(bounds.filter(({ part }) => !questions.some((sql) => sql.includes(part)))).toEqual([]);
});
