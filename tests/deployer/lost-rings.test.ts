import { readFileSync } from "node:fs";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { useApi } from "../client/api.ts";
import { useDatabase } from "../support/database.ts";
import { createMachine } from "../support/deployer.ts";
import { FUNCTION_SECRET, startFunction, type TestFunction } from "../support/function-server.ts";
import { eventually, insertService, registryOf } from "../support/services.ts";

// No ring of the database ever arrives. The real deployer, function and API; nothing is deployed, for the platform is paused.
const database = useDatabase();
const api = useApi(database);
const machine = createMachine(database, () => "127.0.0.1:9");
const standIn = (name: string) => readFileSync(new URL(`../../local/doorbell/${name}.sql`, import.meta.url), "utf8");
let edgeFunction: TestFunction;
beforeAll(async () => {
  edgeFunction = await startFunction(api.url);
  await database.rows(`insert into storage.buckets (id, name, public) values ('manifests', 'manifests', false)`);
  await database.rows(
    `update osp_metadata.platforms set paused_at = now(), pause_reason = 'a test' where name = 'local'`,
  );
});
afterAll(async () => void await edgeFunction.stop());
beforeEach(async () => {
  await database.rows(`drop schema if exists net cascade`);
  await database.rows(`drop schema if exists vault cascade`);
});
afterEach(() => machine.clear());

const startDeployer = () =>
  machine.start({
    FUNCTIONS_URL: edgeFunction.url,
    OSP_WEBHOOK_SECRET: FUNCTION_SECRET,
    OSP_SWEEP_SECONDS: "0.3",
    OSP_RECONCILE_SECONDS: "0.6",
  });
const isEnqueued = (schema: string) =>
  eventually(() => registryOf(database, schema), ([row]) => row?.deployment_status === "pending");

/** A database with the doorbell's parts, and nobody who sends what it queues. */
async function withDoorbell(): Promise<void> {
  for (const name of ["net", "vault"]) await database.rows(standIn(name));
  await database.rows(
    `select vault.create_secret($1, 'osp_functions_url'), vault.create_secret($2, 'osp_webhook_secret')`,
    [edgeFunction.url, FUNCTION_SECRET],
  );
}

test("pg_net is down and a crash empties its tables: the deployer rings", async () => {
  await withDoorbell();
  startDeployer();
  await insertService(database, "queued");
  expect(await database.rows(`select from net.http_request_queue`)).toHaveLength(1);
  await database.rows(`truncate net.http_request_queue, net._http_response`);
  await isEnqueued("queued");
});

test("without pg_net, and with a deployer that comes an hour later, nothing is lost", async () => {
  await insertService(database, "waited");
  await database.rows(
    `update osp_metadata.service_intents set requested_at = requested_at - interval '1 hour' where service_schema = 'waited'`,
  );
  startDeployer();
  await isEnqueued("waited");
});

test("what no trigger saw, and rang for, is found", async () => {
  await withDoorbell();
  startDeployer();
  await database.rows(`begin; set local session_replication_role = replica;
    insert into osp.services (service_schema, service_name, workflows) values ('unseen', 'S', '[{"name": "w", "activities": ["x"]}]'); commit`);
  await isEnqueued("unseen");
});

test("what nobody keeps is removed, from the registry and from Storage", async () => {
  await insertService(database, "pruned");
  await edgeFunction.ring();
  await database.rows(`delete from osp.services where service_schema = 'pruned'`);
  await edgeFunction.ring();
  const objects = () => database.rows(`select name from storage.objects where name like 'pruned%'`);
  expect(await objects()).toHaveLength(2);
  await database.rows(
    `update osp_metadata.worker_registry set deployment_status = 'stopped', stopped_at = clock_timestamp() where service_schema = 'pruned'`,
  );
  await database.rows(`update osp_metadata.retention set keep_days = 0`);
  startDeployer();
  await eventually(objects, (found) => found.length === 0);
  await eventually(() => database.rows(`select from osp_metadata.pruned_objects`), (found) => found.length === 0);
  expect(await registryOf(database, "pruned")).toEqual([]);
  expect(
    await database.rows(`select revision from osp_metadata.service_intents where service_schema = 'pruned'`),
  ).toEqual([{ revision: 2 }]);
});
