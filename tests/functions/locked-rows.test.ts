import { afterEach, beforeEach, expect, onTestFinished, test } from "vitest";
import { connect, createIntentQueue } from "../../supabase/functions/queue-worker-build/supabase-adapter.ts";
import { useApi } from "../client/api.ts";
import { KEYS } from "../local/stand.ts";
import { useDatabase } from "../support/database.ts";
import { createTestHandler, ring } from "../support/edge-function.ts";
import { untilBlocked } from "../support/locks.ts";
import { clearServices, insertService, registryOf } from "../support/services.ts";

const database = useDatabase();
const api = useApi(database);
const rings: string[] = [];
const createFunction = () =>
  createTestHandler(database, {
    queue: createIntentQueue(connect(api.url, KEYS.SECRET_KEY)),
    ringAgain: () => void rings.push("ring"),
  });
beforeEach(() => clearServices(database));
afterEach(() => void rings.splice(0));

/** A person who has begun a transaction and gone for lunch. */
async function personWithRowsOf(prefix: string) {
  const person = await database.connect();
  onTestFinished(() => person.end());
  await person.query(`begin`);
  const { rowCount } = await person.query(
    `select from osp_metadata.worker_registry where starts_with(service_schema, '${prefix}') for update`,
  );
  expect(rowCount).toBeGreaterThan(0);
  return person;
}
const newestOf = async (schema: string) => (await registryOf(database, schema)).at(-1)?.revision;

/** Both with a newer revision that waits, the ones before the others. */
async function edit(ones: number, others: number): Promise<void> {
  const handler = createFunction();
  await database.rows(
    `insert into osp.services (service_schema, service_name, workflows)
     select which.prefix || g, 'S', '[{"name": "w", "activities": ["x"]}]'
     from (values ('held', $1::integer), ('other', $2::integer)) as which (prefix, number), generate_series(1, which.number) as g`,
    [ones, others],
  );
  await handler(ring());
  for (const prefix of ["held", "other"]) {
    await database.rows(`update osp.services set service_name = 'Newer' where starts_with(service_schema, $1)`, [
      prefix,
    ]);
  }
}

test.each([
  { held: 1, others: 2 },
  { held: 4, others: 60 },
  { held: 60, others: 4 },
])("$held rows of the registry that a person has locked do not hold up $others behind them", async (numbers) => {
  const { held, others } = numbers;
  await edit(held, others);
  const handler = createFunction();
  const person = await personWithRowsOf("held");
  rings.splice(0);

  const response = await handler(ring());
  expect(await response.json()).toEqual({ taken: held + others, enqueued: others, rejected: 0, remaining: held });
  expect(rings).toEqual(["ring"]);
  expect([await newestOf("held1"), await newestOf("other1")]).toEqual([1, 2]);
  expect(
    await database.rows(
      `select left(service_schema, 4) as which, attempts, lease_token is null as is_free, last_error like '%"held%locked%' as is_told, count(*)::integer
       from osp_metadata.service_intents where revision > enqueued_revision group by 1, 2, 3, 4`,
    ),
  ).toEqual([{ which: "held", attempts: 0, is_free: true, is_told: true, count: held }]);
  // It would ring for as long as the rows are locked.
  expect(await (await handler(ring())).json()).toMatchObject({ enqueued: 0, remaining: held });
  expect(rings).toEqual(["ring"]);

  await person.query("rollback");
  expect(await (await handler(ring())).json()).toMatchObject({ enqueued: held, remaining: 0 });
  expect(await newestOf("held1")).toBe(2);
}, 60_000);

test("a row that is locked for a moment is waited for", async () => {
  await edit(1, 1);
  const person = await personWithRowsOf("held");
  const response = createFunction()(ring());
  await untilBlocked(database, person);
  await person.query("rollback");
  expect(await (await response).json()).toMatchObject({ enqueued: 2, remaining: 0 });
});

test.each([
  {
    title: "a refused revision, which replaces nothing",
    statement: `update osp.services set options = '{"colour": "red"}'`,
    status: "deployed",
    told: { rejected: 1 },
  },
  {
    title: "a newer revision, while its worker's row is locked",
    statement: `update osp.services set service_name = 'Newer'`,
    status: "deployed",
    told: { enqueued: 1 },
  },
  {
    title: "a stop, which asks its worker to stop",
    statement: `update osp.services set enabled = false`,
    status: "deployed",
    told: { remaining: 1 },
  },
])("$title", async ({ statement, status, told }) => {
  await insertService(database, "held");
  await createFunction()(ring());
  await database.rows(`update osp_metadata.worker_registry set deployment_status = $1, deployed_at = now()`, [status]);
  await database.rows(statement);
  await personWithRowsOf("held");
  expect(await (await createFunction()(ring())).json()).toEqual({
    taken: 1,
    enqueued: 0,
    rejected: 0,
    remaining: 0,
    ...told,
  });
});
