import type pg from "pg";
import type { Progress } from "../../local/building.ts";
import { migrate } from "../../local/database.ts";
import { fleetService, type FleetSize, letWait, loadFleet } from "../support/fleet.ts";
import { readFilteredRecipes, RECIPE_SERVICE } from "../support/recipes.ts";
import { type BenchResult, createResult, median } from "./result.ts";
import { withClient } from "./scratch.ts";

/** Two years of history beside the first week of it, at the same pace: 10,000 rows a week. */
const LARGE = { services: 100_000, revisions: 10 };
const SMALL = { services: 1000, revisions: 10 };
const WAITING = 50;
const ROUNDS = 11;
const GOAL_RATIO = 3;

/** What is lost with the machine is loaded again; autovacuum would come in the middle of a run. */
export const SERVER_SETTINGS = {
  fsync: "off",
  wal_level: "minimal",
  max_wal_senders: "0",
  max_wal_size: "4GB",
  autovacuum: "off",
};

/** Each of README.md's recipes that asks for some rows, on a million rows of the registry beside itself on ten thousand. */
export async function measureRecipes(
  url: string,
  progress: Progress,
  write: (line: string) => void,
): Promise<BenchResult[]> {
  const small = await createDatabase(url, "osp_small", SMALL, progress);
  const large = await createDatabase(url, "osp_large", LARGE, progress);
  return await withClient(small, (a) => withClient(large, (b) => compareAll(a, b, write)));
}

async function createDatabase(server: string, name: string, size: FleetSize, progress: Progress): Promise<string> {
  await withClient(server, (client) => client.query(`create database ${name}`));
  const url = server.replace(/postgres$/, name);
  await migrate(url);
  await progress.step(
    `${size.services * size.revisions} rows of the registry`,
    () =>
      withClient(url, async (client) => {
        await loadFleet(client, size);
        await prepare(client);
      }),
  );
  return url;
}

/** The service that recipes name, and some that wait. */
async function prepare(client: pg.Client): Promise<void> {
  await client.query(`set session_replication_role = replica`);
  await letWait(client, WAITING);
  const registry = ["service_intents", "worker_registry", "deployment_attempts"].map((name) => `osp_metadata.${name}`);
  for (const table of ["osp.services", ...registry]) {
    await client.query(`update ${table} set service_schema = $2 where service_schema = $1`, [
      fleetService(42),
      RECIPE_SERVICE,
    ]);
    await client.query(`vacuum (analyze) ${table}`);
  }
}

async function compareAll(small: pg.Client, large: pg.Client, write: (line: string) => void): Promise<BenchResult[]> {
  for (const client of [small, large]) await client.query(`set role osp_analyst`);
  const results: BenchResult[] = [];
  for (const [index, recipe] of readFilteredRecipes().entries()) {
    const result = await compare(`recipe_${index + 1}_at_a_million_rows`, recipe, small, large);
    write(`  ${result.value} times as long: ${recipe.replaceAll(/\s+/g, " ").slice(0, 100)}`);
    results.push(result);
  }
  return results;
}

/** Turn by turn, after one of each that fills the caches. */
async function compare(name: string, recipe: string, small: pg.Client, large: pg.Client): Promise<BenchResult> {
  const smallMs: number[] = [];
  const largeMs: number[] = [];
  for (let round = 0; round <= ROUNDS; round++) {
    const took = [await timed(small, recipe), await timed(large, recipe)] as const;
    if (round === 0) continue;
    smallMs.push(took[0]);
    largeMs.push(took[1]);
  }
  return createResult({
    name,
    value: median(largeMs) / median(smallMs),
    unit: "ratio",
    goal: GOAL_RATIO,
    raw: { million_rows_p50_ms: median(largeMs), ten_thousand_rows_p50_ms: median(smallMs) },
  });
}

async function timed(client: pg.Client, recipe: string): Promise<number> {
  const startedAt = performance.now();
  const { rowCount } = await client.query(recipe);
  if (!rowCount) throw new Error(`Cannot measure: it finds no row: ${recipe}`);
  return performance.now() - startedAt;
}
