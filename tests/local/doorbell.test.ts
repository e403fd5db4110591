import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type pg from "pg";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { freePort } from "../../host/free-port.ts";
import { connect, eventually, startDatabase, startNode, temporaryDirectory, type TestProgram } from "./stand.ts";

interface Received {
  method: string;
  url: string;
  headers: [string, string][];
  body: string;
}

const directory = temporaryDirectory();
let database: Awaited<ReturnType<typeof startDatabase>>;
let sql: pg.Client;
let doorbell: TestProgram;
let receiver: Server;
let url: string;
const received: Received[] = [];

beforeAll(async () => {
  database = await startDatabase(directory.path);
  sql = await connect(database.url);
  await apply("net", "vault", "faults");
  receiver = createServer((request, response) => void receive(request, response)).listen(0, "127.0.0.1");
  await once(receiver, "listening");
  url = `http://127.0.0.1:${Object(receiver.address()).port}`;
  doorbell = await startNode("local/doorbell.ts", { DB_URL: database.url });
});

afterAll(async () => {
  await sql.end();
  const code = await doorbell.stop();
  receiver.closeAllConnections();
  receiver.close();
  await database.remove();
  directory.remove();
  expect(code).toBe(0);
});

beforeEach(async () => {
  await setFaults("deliver_twice = false, refuse_until = null, delay_ms = 0, hold_ms = 0");
  await sql.query("select net.wake()");
  await untilIdle();
  received.length = 0;
});

describe("requests", () => {
  test("are sent after the commit, with body and headers as pg_net sends them", async () => {
    const secret = {
      "Content-Type": "application/json",
      "x-osp-webhook-secret": "s",
      number: 1,
      none: null,
      empty: "",
    };
    await sql.query("begin");
    const id = await post(`${url}/ring`, { body: { b: 1, a: [true] }, headers: secret });
    expect(received).toEqual([]);
    await sql.query("commit");
    expect(await answerTo(id)).toMatchObject({ status_code: 200, timed_out: false, error_msg: null, content: "ok" });
    expect(received).toHaveLength(1);
    expect(received[0]).toMatchObject({ method: "POST", url: "/ring", body: '{"a": [true], "b": 1}' });
    expect(received[0]?.headers).toEqual([
      ["Host", url.slice("http://".length)],
      ["Accept", "*/*"],
      ["number", "1"],
      ["Content-Type", "application/json"],
      ["x-osp-webhook-secret", "s"],
      ["User-Agent", "pg_net/0.20.4"],
      ["Content-Length", "21"],
      ["Connection", "keep-alive"],
    ]);
  });

  test("of a rolled-back transaction are never sent", async () => {
    await sql.query("begin");
    await post(`${url}/rolled-back`);
    await sql.query("rollback");
    await answerTo(await post(`${url}/after`));
    expect(received.map((request) => request.url)).toEqual(["/after"]);
  });

  test("that are inserted by hand wait for the next wake-up", async () => {
    await sql.query("insert into net.http_request_queue (method, url, timeout_milliseconds) values ('get', $1, 1000)", [
      `${url}/by-hand`,
    ]);
    await answerTo(await post(`${url}/by-function`));
    expect(received.map((request) => request.url).toSorted()).toEqual(["/by-function", "/by-hand"]);
  });

  test("carry their parameters percent-encoded, by every method", async () => {
    const { rows } = await sql.query(
      `select net.http_get($1 || '/get?x=1', params => '{"a b": "ü&"}') as get, net.http_delete($1 || '/del', body => '{"z": 1}') as del`,
      [url],
    );
    await answerTo(rows[0].get);
    await answerTo(rows[0].del);
    expect(received.find(({ method }) => method === "GET")).toMatchObject({
      url: "/get?x=1&a%20b=%C3%BC%26",
      body: "",
    });
    expect(received.find(({ method }) => method === "DELETE")).toMatchObject({ url: "/del", body: '{"z": 1}' });
  });

  test("without headers are sent as a form, as libcurl does", async () => {
    await sql.query("select net.http_post($1, headers => null)", [`${url}/form`]);
    const request = await eventually(() => received[0]);
    expect(new Map(request.headers).get("Content-Type")).toBe("application/x-www-form-urlencoded");
  });
});

describe("raises in the caller's transaction", () => {
  test.each([
    ["no URL", "select net.http_post(null)", 'null value in column "url"'],
    ["a relative URL", "select net.http_post('/path')", "invalid URL"],
    [
      "another content type",
      `select net.http_post('http://x', headers => '{"content-type": "text/plain"}')`,
      'Content-Type header must be "application/json"',
    ],
    [
      "a content type with a charset",
      `select net.http_post('http://x', headers => '{"Content-Type": "application/json; charset=utf-8"}')`,
      "Content-Type",
    ],
    ["a body of text", "select net.http_post('http://x', body => 'a'::text)", "does not exist"],
  ])("%s", async (_case, statement, message) => {
    await expect(sql.query(statement)).rejects.toThrow(message);
  });
});

describe("outcomes", () => {
  test("a refusal, an unknown host, a cut connection and another protocol have libcurl's words", async () => {
    const closed = await freePort();
    const targets = [`http://127.0.0.1:${closed}/`, "http://no-such-host.invalid/", `${url}/cut`, "ftp://127.0.0.1/"];
    const messages = [];
    for (const target of targets) messages.push((await answerTo(await post(target))).error_msg);
    expect(messages).toEqual([
      "Couldn't connect to server",
      "Couldn't resolve host name",
      "Server returned nothing (no headers, no data)",
      "Unsupported protocol",
    ]);
  });

  test("a timeout says so, and the receiver had the request", async () => {
    const answer = await answerTo(await post(`${url}/never`, { timeout: 150 }));
    expect(answer).toMatchObject({ status_code: null, timed_out: true });
    expect(answer.error_msg).toMatch(/^Timeout of 150 ms reached\. Total time: /);
    expect(received).toHaveLength(1);
  });

  test("an error status is an answer like any other, and is not tried again", async () => {
    expect(await answerTo(await post(`${url}/status/503`))).toMatchObject({ status_code: 503, error_msg: null });
    expect(received).toHaveLength(1);
  });

  test("redirects turn a POST into a GET, or keep it at 307", async () => {
    await answerTo(await post(`${url}/to/302`));
    await answerTo(await post(`${url}/to/307`));
    expect(received.map((request) => `${request.method} ${request.url}`)).toEqual([
      "POST /to/302",
      "GET /target",
      "POST /to/307",
      "POST /target",
    ]);
  });

  test("answers of a batch become visible together, when the slowest has ended", async () => {
    await sql.query("begin");
    const fast = await post(`${url}/fast`);
    await post(`${url}/never`, { timeout: 400 });
    await sql.query("commit");
    await eventually(() => received.length === 2 ? true : undefined);
    expect(await countAnswers()).not.toContain(fast);
    await answerTo(fast);
  });
});

describe("settings", () => {
  test("a batch of 0 pauses the queue", async () => {
    await sql.query("alter role postgres set pg_net.batch_size = 0");
    await restartWorker();
    const id = await post(`${url}/paused`);
    await restartWorker();
    await untilPassed();
    expect(received).toEqual([]);
    await sql.query("alter role postgres reset pg_net.batch_size");
    await restartWorker();
    await answerTo(id);
  });

  test("answers older than the ttl go at the next pass", async () => {
    await answerTo(await post(`${url}/old`));
    await sql.query("update net._http_response set created = now() - interval '7 hours'");
    await sql.query("select net.wake()");
    await eventually(async () => (await countAnswers()).length === 0 ? true : undefined);
  });
});

describe("faults", () => {
  test("a crash empties both tables and begins the ids anew; the worker goes on", async () => {
    await setFaults("delay_ms = 60000");
    await post(`${url}/lost`);
    await eventually(async () => await isInPass() ? true : undefined);
    await sql.query("select osp_local.crash_net()");
    await setFaults("delay_ms = 0");
    expect((await sql.query("select from net.http_request_queue")).rowCount).toBe(0);
    await sql.query("select net.wait_until_running()");
    const id = await post(`${url}/next`);
    expect(id).toBe("1");
    await answerTo(id);
    expect(received.map((request) => request.url)).toEqual(["/next"]);
  });

  test("a request is delivered twice and answered once", async () => {
    await setFaults("deliver_twice = true");
    const id = await post(`${url}/twice`);
    await answerTo(id);
    expect(received).toHaveLength(2);
    expect((await countAnswers()).filter((one) => one === id)).toHaveLength(1);
  });

  test("while it refuses, requests are used up", async () => {
    await setFaults("refuse_until = now() + interval '1 hour'");
    expect(await answerTo(await post(`${url}/refused`))).toMatchObject({ error_msg: "Couldn't connect to server" });
    expect(received).toEqual([]);
  });

  test("an answer after the timeout is a timeout", async () => {
    await setFaults("hold_ms = 60000");
    expect(await answerTo(await post(`${url}/held`, { timeout: 200 }))).toMatchObject({ timed_out: true });
    expect(received).toHaveLength(1);
  });
});

test("the queue outlives an orderly restart of Postgres, and the worker finds it by itself", async () => {
  const worker = doorbell.child.pid;
  await sql.query("insert into net.http_request_queue (method, url, timeout_milliseconds) values ('post', $1, 1000)", [
    `${url}/kept`,
  ]);
  await sql.end();
  await database.stop();
  await database.start();
  sql = await connect(database.url);
  // Up by itself: what it had sent when Postgres went down may have arrived already.
  await sql.query("select net.wait_until_running()");
  await eventually(() => received.find((request) => request.url === "/kept"));
  expect(doorbell.child.pid).toBe(worker);
  await sql.query("select net.check_worker_is_up()");
});

test("whoever runs SQL may ring, and the Vault is the owner's alone", async () => {
  await sql.query("create role anybody; create role service_role; grant anybody to postgres");
  await sql.query("set role anybody");
  await expect(sql.query("select * from vault.decrypted_secrets")).rejects.toThrow("permission denied");
  await expect(sql.query("select vault.create_secret('a', 'b')")).rejects.toThrow("permission denied");
  const id = await post(`${url}/anybody`);
  await sql.query("reset role");
  await answerTo(id);
  const { rows } = await sql.query(`select has_schema_privilege('service_role', 'vault', 'usage') as service_role`);
  expect(rows).toEqual([{ service_role: false }]);
});

test("the Vault keeps, changes and shows secrets by the calls of the Supabase CLI", async () => {
  const { rows: [created] } = await sql.query("select vault.create_secret('first', 'a_secret')");
  await sql.query("select vault.update_secret($1, 'second')", [created.create_secret]);
  const { rows } = await sql.query("select name, description, decrypted_secret from vault.decrypted_secrets");
  expect(rows).toEqual([{ name: "a_secret", description: "", decrypted_secret: "second" }]);
  await expect(sql.query("select vault.create_secret('other', 'a_secret')")).rejects.toThrow("duplicate key");
});

test("applied again, the stand-ins change nothing", async () => {
  const before = await sql.query("select count(*)::integer as secrets from vault.secrets");
  await apply("net", "vault", "faults");
  expect((await sql.query("select count(*)::integer as secrets from vault.secrets")).rows).toEqual(before.rows);
  await answerTo(await post(`${url}/again`));
});

async function apply(...names: string[]): Promise<void> {
  for (const name of names) {
    await sql.query(readFileSync(new URL(`../../local/doorbell/${name}.sql`, import.meta.url), "utf8"));
  }
}

async function receive(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk);
  const headers: [string, string][] = [];
  for (let index = 0; index < request.rawHeaders.length; index += 2) {
    headers.push([request.rawHeaders[index] ?? "", request.rawHeaders[index + 1] ?? ""]);
  }
  received.push({
    method: request.method ?? "",
    url: request.url ?? "",
    headers,
    body: Buffer.concat(chunks).toString(),
  });
  const [, kind, argument] = (request.url ?? "").split("/");
  if (kind === "never") return;
  if (kind === "cut") {
    request.socket.destroy();
    return;
  }
  if (kind === "to") response.writeHead(Number(argument), { location: "/target" }).end();
  else response.writeHead(kind === "status" ? Number(argument) : 200, { "content-type": "text/plain" }).end("ok");
}

async function post(
  target: string,
  { body = {}, headers, timeout = 5000 }: { body?: object; headers?: object; timeout?: number } = {},
) {
  const { rows } = await sql.query(
    `select net.http_post(url := $1, body := $2, headers := $3, timeout_milliseconds := $4) as id`,
    [target, JSON.stringify(body), JSON.stringify(headers ?? { "Content-Type": "application/json" }), timeout],
  );
  return String(rows[0].id);
}

async function answerTo(id: string) {
  return await eventually(async () =>
    (await sql.query("select * from net._http_response where id = $1", [id])).rows[0]
  );
}

async function countAnswers(): Promise<string[]> {
  return (await sql.query("select id from net._http_response")).rows.map(({ id }) => id);
}

async function setFaults(assignments: string): Promise<void> {
  await sql.query(`update osp_local.net_faults set ${assignments}`);
}

async function isInPass(): Promise<boolean> {
  const { rowCount } = await sql.query(
    "select from pg_stat_activity where application_name like 'pg_net%' and state = 'idle in transaction'",
  );
  return rowCount === 1;
}

/**
 * Until the worker waits for a wake-up alone. One that rests between two passes would take what a test queues under the
 * settings of the test before; after a restart the first pass finds nothing, and then there is no rest.
 */
async function untilIdle(): Promise<void> {
  await eventually(async () => {
    const { rowCount } = await sql.query("select from net.http_request_queue");
    return rowCount === 0 && !await isInPass() ? true : undefined;
  });
  await restartWorker();
  await untilPassed();
}

/** Until the worker has looked since it was started. */
async function untilPassed(): Promise<void> {
  await eventually(async () => {
    const { rowCount } = await sql.query(`select from pg_stat_activity
      where application_name like 'pg_net%' and state = 'idle' and query ilike 'commit%'`);
    return rowCount === 1 ? true : undefined;
  });
}

async function restartWorker(): Promise<void> {
  const pid = async () =>
    (await sql.query("select pid from pg_stat_activity where application_name like 'pg_net%'")).rows[0]?.pid;
  const before = await pid();
  await sql.query("select net.worker_restart()");
  await eventually(async () => {
    const now = await pid();
    return now !== undefined && now !== before ? true : undefined;
  });
}
