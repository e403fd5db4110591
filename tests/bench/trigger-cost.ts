import type pg from "pg";
import { type BenchResult, createResult, median } from "./result.ts";

const ROWS = 10_000;
/** After one that is not counted: it fills the session's caches of plans and functions. */
const RUNS = 5;
const SINGLE_INSERTS = 200;
const GOAL_INSERT_RATIO = 2.2;

const OURS = "osp.services";
/** The same columns, defaults, constraints and indexes without a trigger. */
const PEER = "osp_bench.services";
/** The least that a service can be. The check looks at every name, so the more there are, the less the triggers weigh. */
const WORKFLOWS = JSON.stringify([{ name: "doWork", activities: ["work"] }]);
type Table = typeof OURS | typeof PEER;

interface Run {
  insertMs: number;
  updateMs: number;
}

/** What our triggers add to a statement, against a copy of the table that has none, on the same connection. */
export async function measureTriggerCost(client: pg.Client, write: (line: string) => void): Promise<BenchResult[]> {
  await createPeer(client);
  const runs: Record<Table, Run[]> = { [OURS]: [], [PEER]: [] };
  for (let round = 0; round <= RUNS; round++) {
    // Each goes first in every other round, so that neither always meets the warmer machine.
    const order: Table[] = round % 2 === 0 ? [OURS, PEER] : [PEER, OURS];
    for (const table of order) {
      const run = await measureRun(client, table);
      if (round > 0) runs[table].push(run);
      write(
        `  ${round === 0 ? "warm-up" : `run ${round}`}, ${table}: ${ROWS} rows inserted in ${
          run.insertMs.toFixed(0)
        } ms, ` +
          `updated in ${run.updateMs.toFixed(0)} ms`,
      );
    }
  }
  return [
    compare(`insert_${ROWS}_rows_triggers`, runs, ({ insertMs }) => insertMs, GOAL_INSERT_RATIO),
    compare(`update_${ROWS}_rows_triggers`, runs, ({ updateMs }) => updateMs, null),
    await measureSingleInserts(client),
  ];
}

async function createPeer(client: pg.Client): Promise<void> {
  await client.query(`create schema osp_bench; create table ${PEER} (like ${OURS} including all)`);
  const [ours, peer] = [await shapeOf(client, OURS), await shapeOf(client, PEER)];
  // A peer with less to check would make the triggers look dear, one with triggers would make them look cheap.
  if (
    ours.rules !== peer.rules || !peer.rules.includes("is_valid_service") || ours.triggers === 0 || peer.triggers > 0
  ) {
    throw new Error(`Cannot compare ${OURS} with its copy: ${JSON.stringify({ ours, peer })}`);
  }
}

async function shapeOf(client: pg.Client, table: Table): Promise<{ rules: string; triggers: number }> {
  const { rows: [row] } = await client.query(
    `select
      (select string_agg(pg_get_constraintdef(oid), '; ' order by contype, pg_get_constraintdef(oid))
        from pg_constraint where conrelid = $1::regclass)
      || '; indexes: ' || (select count(*) from pg_index where indrelid = $1::regclass)
      || '; columns: ' || (select string_agg(format('%s %s %s', attname, atttypid::regtype, attnotnull), ', ' order by attnum)
        from pg_attribute where attrelid = $1::regclass and attnum > 0) as rules,
      (select count(*)::integer from pg_trigger where tgrelid = $1::regclass and not tgisinternal) as triggers`,
    [table],
  );
  return row;
}

async function measureRun(client: pg.Client, table: Table): Promise<Run> {
  await empty(client);
  const insertMs = await timed(() =>
    client.query(
      `insert into ${table} (service_schema, service_name, workflows)
      select 'bench_' || number, $1, $2::jsonb from generate_series(1, ${ROWS}) as number`,
      ["A Service", WORKFLOWS],
    )
  );
  await expectRecorded(client, table === OURS ? { intents: ROWS, rings: 1 } : { intents: 0, rings: 0 });
  await client.query(`vacuum analyze ${table}`);
  await client.query(`vacuum analyze osp_metadata.service_intents`);
  await client.query(`checkpoint`);
  const updateMs = await timed(() => client.query(`update ${table} set service_name = service_name || ' 2'`));
  await expectRecorded(client, table === OURS ? { intents: ROWS, rings: 2 } : { intents: 0, rings: 0 });
  return { insertMs, updateMs };
}

/** Both tables, and what the triggers have written, as new; the next run starts behind its own checkpoint. */
async function empty(client: pg.Client): Promise<void> {
  await client.query(`set session_replication_role = replica`); // TRUNCATE is not to be recorded as ten thousand deletes
  await client.query(`truncate ${OURS}, ${PEER}, osp_metadata.service_intents, net.http_request_queue`);
  await client.query(`set session_replication_role = origin`);
  await client.query(`checkpoint`);
}

/** Triggers that did nothing, or a doorbell that did not ring, would be cheap. */
async function expectRecorded(client: pg.Client, expected: { intents: number; rings: number }): Promise<void> {
  const { rows: [found] } = await client.query(
    `select (select count(*)::integer from osp_metadata.service_intents) as intents,
      (select count(*)::integer from net.http_request_queue) as rings`,
  );
  if (found.intents !== expected.intents || found.rings !== expected.rings) {
    throw new Error(`Cannot trust the run: recorded ${JSON.stringify(found)}, expected ${JSON.stringify(expected)}`);
  }
}

/** As OSP inserts a service: one row, one statement, one transaction; so each of ours rings. */
async function measureSingleInserts(client: pg.Client): Promise<BenchResult> {
  await empty(client);
  const times: Record<Table, number[]> = { [OURS]: [], [PEER]: [] };
  for (let number = 1; number <= SINGLE_INSERTS; number++) {
    for (const table of [OURS, PEER] as const) {
      const insert = () =>
        client.query(
          `insert into ${table} (service_schema, service_name, workflows) values ($1, $2, $3)`,
          [`bench_${number}`, "A Service", WORKFLOWS],
        );
      times[table].push(await timed(insert));
    }
  }
  await expectRecorded(client, { intents: SINGLE_INSERTS, rings: SINGLE_INSERTS });
  const [ours, peer] = [median(times[OURS]), median(times[PEER])];
  return createResult({
    name: "insert_single_row_p50",
    value: ours,
    unit: "ms",
    goal: null,
    raw: { inserts: SINGLE_INSERTS, with_triggers_p50_ms: ours, without_triggers_p50_ms: peer, ratio: ours / peer },
  });
}

function compare(
  name: string,
  runs: Record<Table, Run[]>,
  pick: (run: Run) => number,
  goal: number | null,
): BenchResult {
  const [ours, peer] = [runs[OURS].map(pick), runs[PEER].map(pick)];
  return createResult({
    name,
    value: median(ours) / median(peer),
    unit: "ratio",
    goal,
    raw: {
      with_triggers_p50_ms: median(ours),
      without_triggers_p50_ms: median(peer),
      with_triggers_ms: ours,
      without_triggers_ms: peer,
    },
  });
}

/** In milliseconds, the commit included. */
async function timed(work: () => Promise<unknown>): Promise<number> {
  const startedAt = performance.now();
  await work();
  return performance.now() - startedAt;
}
