import { readFileSync } from "node:fs";
import { beforeEach, expect, test } from "vitest";
import { useDatabase } from "../support/database.ts";
import { insertService } from "../support/services.ts";

// The stand-ins alone, nobody sends: what is tested is that the ring never fails or slows the writer.
const database = useDatabase();
const standIn = (name: string) => readFileSync(new URL(`../../local/doorbell/${name}.sql`, import.meta.url), "utf8");
const rings = () =>
  database.rows<{ url: string; headers: Record<string, string>; body: string }>(
    `select url, headers, convert_from(body, 'UTF8') as body from net.http_request_queue`,
  );
let number = 0;
const insertOne = async () => {
  const startedAt = performance.now();
  await insertService(database, `service_${++number}`);
  return performance.now() - startedAt;
};

beforeEach(async () => {
  await database.rows(`drop schema if exists net cascade`);
  await database.rows(`drop schema if exists vault cascade`);
});
async function withPgNet() {
  await database.rows(standIn("net"));
}
async function withVault(url: string | null = "http://127.0.0.1:9/functions/v1") {
  await database.rows(standIn("vault"));
  if (url !== null) {
    await database.rows(
      `select vault.create_secret($1, 'osp_functions_url'), vault.create_secret('a-secret-of-the-test', 'osp_webhook_secret')`,
      [url],
    );
  }
}

test("an insert rings once, with the secret from the Vault and nothing of the row", async () => {
  await withPgNet();
  await withVault();
  await insertOne();
  expect(await rings()).toEqual([{
    url: "http://127.0.0.1:9/functions/v1/queue-worker-build",
    headers: { "Content-Type": "application/json", "x-osp-webhook-secret": "a-secret-of-the-test" },
    body: "{}",
  }]);
});

test("a transaction of many statements rings once, and one that is rolled back never", async () => {
  await withPgNet();
  await withVault();
  const client = await database.connect();
  const insert =
    `insert into osp.services (service_schema, service_name, workflows) values ($1, 'S', '[{"name":"w","activities":["x"]}]')`;
  await client.query("begin");
  for (const schema of ["many_1", "many_2", "many_3"]) await client.query(insert, [schema]);
  await client.query("commit");
  expect(await rings()).toHaveLength(1);
  await client.query("begin");
  await client.query(insert, ["rolled_back"]);
  await client.query("rollback");
  expect(await rings()).toHaveLength(1);
});

test("an update that changes nothing does not ring", async () => {
  await insertOne();
  await withPgNet();
  await withVault();
  await database.rows(`update osp.services set service_name = service_name`);
  expect(await rings()).toEqual([]);
});

test.each([
  ["no pg_net", async () => await withVault()],
  ["no Vault", withPgNet],
  ["a Vault without our secrets", async () => {
    await withPgNet();
    await withVault(null);
  }],
  ["a URL that pg_net refuses", async () => {
    await withPgNet();
    await withVault("nonsense");
  }],
  ["a pg_net that raises", async () => {
    await withPgNet();
    await withVault();
    await database.rows(`drop table net.http_request_queue`);
  }],
])("with %s the insert succeeds and its intent waits", async (_title, arrange) => {
  await arrange();
  await insertOne();
  expect(
    await database.rows(
      `select source from osp_metadata.service_intents where service_schema = $1 and revision > enqueued_revision`,
      [`service_${number}`],
    ),
  ).toEqual([{ source: "insert" }]);
});

test("a locked queue holds the insert up for a quarter of a second, no longer", async () => {
  await withPgNet();
  await withVault();
  const client = await database.connect();
  await client.query("begin");
  await client.query("lock table net.http_request_queue in access exclusive mode");
  expect(await insertOne()).toBeLessThan(5000);
  await client.query("rollback");
  expect(await rings()).toEqual([]);
});
