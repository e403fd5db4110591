import { beforeEach, expect, onTestFinished, test } from "vitest";
import { connect, createIntentQueue } from "../../supabase/functions/queue-worker-build/supabase-adapter.ts";
import { useApi } from "../client/api.ts";
import { KEYS } from "../local/stand.ts";
import { useDatabase } from "../support/database.ts";
import { createTestHandler, ring } from "../support/edge-function.ts";
import { clearServices, insertService, registryOf } from "../support/services.ts";

const database = useDatabase();
const api = useApi(database);
beforeEach(() => clearServices(database));

test("a row of the registry that a person has locked holds up its own service alone", async () => {
  const handler = createTestHandler(database, { queue: createIntentQueue(connect(api.url, KEYS.SECRET_KEY)) });
  const schemas = ["one", "held", "two"];
  for (const schema of schemas) await insertService(database, schema);
  await handler(ring());
  await database.rows(`update osp.services set service_name = 'Newer'`);
  const person = await database.connect();
  onTestFinished(() => person.end());
  await person.query(`begin; select from osp_metadata.worker_registry where service_schema = 'held' for update`);

  const response = await handler(ring());
  expect(response.status).toBe(503);
  expect(await response.json()).toMatchObject({ taken: 3, enqueued: 2, message: expect.stringContaining("55P03") });
  const newest = async () =>
    Promise.all(schemas.map(async (schema) => (await registryOf(database, schema)).at(-1)?.revision));
  expect(await newest()).toEqual([2, 1, 2]);
  expect(await database.rows(`select service_schema from osp_metadata.service_intents where last_error is not null`))
    .toEqual([{ service_schema: "held" }]);
  await person.query("rollback");
  expect((await handler(ring())).status).toBe(200);
  expect(await newest()).toEqual([2, 2, 2]);
}, 60_000);
