import { once } from "node:events";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import {
  connect,
  createIntentQueue,
  createManifestStore,
  createPrunedObjects,
} from "../../supabase/functions/queue-worker-build/supabase-adapter.ts";
import { useApi } from "../client/api.ts";
import { KEYS } from "../local/stand.ts";
import { useDatabase } from "../support/database.ts";
import { createTestHandler, ring } from "../support/edge-function.ts";
import { clearServices, insertService, registryOf } from "../support/services.ts";

const database = useDatabase();
const api = useApi(database);
const bucket = `insert into storage.buckets (id, name, public, file_size_limit, allowed_mime_types)
  values ('manifests', 'manifests', false, 1048576, '{application/json}')
  on conflict (id) do update set file_size_limit = excluded.file_size_limit, allowed_mime_types = excluded.allowed_mime_types`;

beforeEach(async () => {
  await clearServices(database);
  await database.rows(bucket);
  await insertService(database, "a");
});

/** The function as it is deployed, on the real Data API; Storage may be another one. */
function createFunction(storage: { url: string; key?: string } = api) {
  return createTestHandler(database, {
    queue: createIntentQueue(connect(api.url, KEYS.SECRET_KEY)),
    pruned: createPrunedObjects(connect(api.url, KEYS.SECRET_KEY)),
    store: createManifestStore(connect(storage.url, storage.key ?? KEYS.SECRET_KEY)),
  });
}
const intents = () =>
  database.rows(`select last_error, last_error_at, lease_token, attempts from osp_metadata.service_intents`);
const status = () =>
  database.rows(`select state, last_error_code, last_error from osp_metadata.worker_status where service_schema = 'a'`);

async function expectWaiting(reason: RegExp): Promise<void> {
  expect(await registryOf(database, "a")).toEqual([]);
  expect(await intents()).toEqual([
    { last_error: expect.stringMatching(reason), last_error_at: expect.any(Date), lease_token: null, attempts: 0 },
  ]);
  expect(await status()).toEqual([
    { state: "waiting", last_error_code: "not_enqueued", last_error: expect.stringMatching(reason) },
  ]);
}

describe("what the operator must mend waits, says so in SQL, and goes on by itself", () => {
  test.each([
    [
      "a bucket that is missing",
      `delete from storage.buckets where id = 'manifests'`,
      {},
      /insert into storage\.buckets/,
    ],
    [
      "a bucket that refuses JSON",
      `update storage.buckets set allowed_mime_types = '{text/plain}'`,
      {},
      /set allowed_mime_types = '\{application\/json\}'/,
    ],
    ["a wrong key", `select`, { key: "sb_secret_wrong" }, /SUPABASE_SECRET_KEYS/],
    ["a Storage that does not answer", `select`, { url: "http://127.0.0.1:9" }, /^Storage does not answer: /],
  ])("%s", async (_title, statement, storage, reason) => {
    await database.rows(statement);
    for (let tries = 0; tries < 6; tries++) {
      const response = await createFunction({ url: api.url, ...storage })(ring());
      expect(response.status).toBe(503);
      expect((await response.json()).message).toMatch(reason);
    }
    await expectWaiting(reason);
    await database.rows(bucket);
    expect(await (await createFunction()(ring())).json()).toMatchObject({ enqueued: 1, remaining: 0 });
    expect(await intents()).toMatchObject([{ last_error: null, last_error_at: null }]);
    expect(await status()).toMatchObject([{ state: "starting", last_error: null, last_error_code: null }]);
  });
});

test("a manifest that is too large fails at once and says what to do, and its neighbour is deployed", async () => {
  await database.rows(`update storage.buckets set file_size_limit = 900`);
  const activities = Array.from({ length: 100 }, (_, index) => `activity_${index}`);
  await insertService(database, "large", { workflows: [{ name: "w", activities }] });
  expect(await (await createFunction()(ring())).json()).toEqual({ taken: 2, enqueued: 1, rejected: 1, remaining: 0 });
  expect(await registryOf(database, "large")).toMatchObject([{
    deployment_status: "failed",
    error_code: "manifest_too_large",
    error_message: expect.stringMatching(
      /"large" revision 1.*no object of \d{4} bytes.*file_size_limit.*osp\.redeploy\('large'\)/,
    ),
  }]);
});

test("what is in the way of a revision is not told of the next one", async () => {
  await createFunction({ url: "http://127.0.0.1:9" })(ring());
  await expectWaiting(/does not answer/);
  await database.rows(`update osp.services set service_name = 'Newer'`);
  expect(await intents()).toMatchObject([{ last_error: null, last_error_at: null }]);
});

test("what the database refuses to enqueue fails after five tries, with the reason, and takes nobody along", async () => {
  await insertService(database, "poison");
  await database.rows(
    `alter table osp_metadata.worker_registry add constraint no_poison check (service_schema <> 'poison' or deployment_status = 'failed')`,
  );
  const handler = createFunction();
  for (let tries = 0; tries < 8; tries++) await handler(ring());
  await database.rows(`alter table osp_metadata.worker_registry drop constraint no_poison`);
  expect(await registryOf(database, "a")).toMatchObject([{ deployment_status: "pending" }]);
  expect(await registryOf(database, "poison")).toMatchObject([{
    deployment_status: "failed",
    error_code: "manifest_build_crashed",
    error_message: expect.stringMatching(/5 times.*23514.*no_poison/),
  }]);
});

describe("in Supabase's words", () => {
  let server: Server;
  let answer = { status: 200, type: "application/json", body: "" };
  let url: string;
  beforeAll(async () => {
    server = createServer((request, response) => {
      request.resume().on("end", () => {
        response.writeHead(answer.status, { "content-type": answer.type }).end(answer.body);
      });
    }).listen(0, "127.0.0.1");
    await once(server, "listening");
    const address = server.address();
    url = `http://127.0.0.1:${isTcp(address) ? address.port : 0}`;
  });
  afterAll(() => {
    server.closeAllConnections();
    server.close();
  });
  const refusal = (statusCode: string, error: string, message: string, code?: string) => ({
    status: 400,
    type: "application/json",
    body: JSON.stringify({ statusCode, error, message, ...(code && { code }) }),
  });
  const page = (code: number) => ({ status: code, type: "text/html", body: "<html>" });

  test.each([
    [
      "too large",
      refusal("413", "Payload too large", "The object exceeded the maximum allowed size", "EntityTooLarge"),
    ],
    ["too large without a code", refusal("413", "Payload too large", "The object exceeded the maximum allowed size")],
    ["too large for what stands before it", page(413)],
  ])("%s: the revision is refused", async (_title, said) => {
    answer = said;
    expect((await createFunction({ url })(ring())).status).toBe(200);
    expect(await registryOf(database, "a")).toMatchObject([{
      deployment_status: "failed",
      error_code: "manifest_too_large",
    }]);
  });

  test.each([
    ["no bucket", refusal("404", "Bucket not found", "Bucket not found"), /no bucket "manifests"/],
    ["no bucket, by code", refusal("404", "not_found", "Not found", "NoSuchBucket"), /no bucket "manifests"/],
    [
      "a mime type",
      refusal("415", "invalid_mime_type", "mime type application/json is not supported"),
      /does not take application\/json.*: mime type/,
    ],
    ["a policy", refusal("403", "Unauthorized", "new row violates row-level security policy"), /refuses the .*key/],
    ["a key that the gateway refuses", { ...page(401), body: "no" }, /refuses the .*key/],
    ["a route that is not there", page(404), /Storage answers 404/],
    ["a failure of its own", refusal("500", "Internal", "The database is not there"), /answers 500.*database is not/],
    ["a page of the gateway", page(502), /answers 502/],
  ])("%s: the revision waits", async (_title, said, reason) => {
    answer = said;
    expect((await createFunction({ url })(ring())).status).toBe(503);
    await expectWaiting(reason);
  });

  test("an object that exists is success", async () => {
    answer = refusal("409", "Duplicate", "The resource already exists", "KeyAlreadyExists");
    expect(await (await createFunction({ url })(ring())).json()).toMatchObject({ enqueued: 1 });
  });
});

function isTcp(address: string | AddressInfo | null): address is AddressInfo {
  return typeof address === "object" && address !== null;
}

test("an object that somebody put in the manifest's place beforehand decides nothing: what is deployed is in the registry", async () => {
  const client = connect(api.url, KEYS.SECRET_KEY).storage.from("manifests");
  await createFunction()(ring());
  const honest = await database.rows<{ manifest: unknown; manifest_sha256: string }>(
    `select manifest, manifest_sha256 from osp_metadata.worker_registry`,
  );
  // The same revision once more, as after a restore, with both of its objects forged.
  await database.rows(`delete from osp_metadata.worker_registry`);
  await database.rows(`update osp_metadata.service_intents set enqueued_revision = 0`);
  const forged = '{"activities_path":"../../etc/passwd","__proto__":{"polluted":true}}';
  const options = { contentType: "application/json", upsert: true };
  for (const path of [`a/1-${honest[0]?.manifest_sha256}.json`, "a.json"]) {
    expect((await client.upload(path, forged, options)).error).toBeNull();
  }
  expect(await (await createFunction()(ring())).json()).toMatchObject({ enqueued: 1 });
  expect(await database.rows(`select manifest, manifest_sha256 from osp_metadata.worker_registry`)).toEqual(honest);
  const { data } = await client.download("a.json");
  expect(JSON.parse(await data?.text() ?? "")).toEqual(honest[0]?.manifest); // the mirror is written anew
});
