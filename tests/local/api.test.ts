import { createClient } from "@supabase/supabase-js";
import { existsSync, readdirSync } from "node:fs";
import { createServer } from "node:http";
import { once } from "node:events";
import type pg from "pg";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { freePort } from "../../host/free-port.ts";
import { objectPath } from "../../local/storage-files.ts";
import {
  connect,
  eventually,
  KEYS,
  runToEnd,
  startDatabase,
  startNode,
  temporaryDirectory,
  type TestProgram,
} from "./stand.ts";

const directory = temporaryDirectory();
let database: Awaited<ReturnType<typeof startDatabase>>;
let sql: pg.Client;
let api: TestProgram;
let functionsPort: number;

beforeAll(async () => {
  database = await startDatabase(directory.path);
  functionsPort = await freePort();
  api = await startApi();
  sql = await connect(database.url);
  await sql.query(`
    insert into storage.buckets (id, name, public, file_size_limit, allowed_mime_types)
    values ('manifests', 'manifests', false, 1048576, '{application/json}')
    on conflict (id) do update set public = false;
    create schema osp_metadata;
    create table osp_metadata.things (
      name text primary key check (name <> 'bad'), tags jsonb not null default '[]', made_at timestamptz default '2026-11-24 01:02:03.5+00'
    );
    create function osp_metadata.names_of(things jsonb) returns table (name text, count integer) language sql as
      $$ select t ->> 'name', jsonb_array_length(things) from jsonb_array_elements(things) as t $$;
    create function osp_metadata.everything() returns setof osp_metadata.things language sql as
      $$ select * from osp_metadata.things order by name $$;
    create function osp_metadata.refuse() returns integer language plpgsql as
      $$ begin raise exception 'no such thing' using errcode = '23514', hint = 'make one'; end $$;
    revoke execute on all functions in schema osp_metadata from public;
    grant usage on schema osp_metadata to service_role;
    grant select, insert on osp_metadata.things to service_role;
    grant execute on all functions in schema osp_metadata to service_role;
  `);
});

afterAll(async () => {
  await sql.end();
  const code = await api.stop();
  await database.remove();
  directory.remove();
  expect(code).toBe(0);
});

describe("Data API", () => {
  test("functions take jsonb arrays and answer with rows", async () => {
    const rows = await eventually(async () => {
      // As with PostgREST, what a migration has just made is known a moment later.
      const { data } = await secret().schema("osp_metadata").rpc("names_of", {
        things: [{ name: "a" }, { name: "b" }],
      });
      return data ?? undefined;
    });
    expect(rows).toEqual([{ name: "a", count: 2 }, { name: "b", count: 2 }]);
  });

  test("rows keep their json, and instants are written as PostgREST writes them", async () => {
    const row = { name: "json", tags: [{ deep: ["x", 1, null] }, "text"] };
    const { error } = await secret().schema("osp_metadata").from("things").insert(row);
    expect(error).toBeNull();
    const { data } = await secret().schema("osp_metadata").rpc("everything").eq("name", "json");
    expect(data).toEqual([{ ...row, made_at: "2026-11-24T01:02:03.5+00:00" }]);
  });

  test("a violated check and a raised error keep their code and hint", async () => {
    const { error: check, status } = await secret().schema("osp_metadata").from("things").insert({ name: "bad" });
    expect({ code: check?.code, status }).toEqual({ code: "23514", status: 400 });
    const { error: raised } = await secret().schema("osp_metadata").rpc("refuse");
    expect(raised).toMatchObject({ code: "23514", message: "no such thing", hint: "make one" });
  });

  test("only what the database grants is allowed", async () => {
    const { error: update } = await secret().schema("osp_metadata").from("things").update({ tags: [] }).eq(
      "name",
      "json",
    );
    expect(update).toMatchObject({ code: "42501" });
    const { error: read } = await anonymous().schema("osp_metadata").from("things").select();
    expect(read).toMatchObject({ code: "42501" });
    const { error: call } = await anonymous().schema("osp_metadata").rpc("everything");
    expect(call).toMatchObject({ code: "42501" });
    const { rows } = await sql.query(`select grantee from information_schema.role_table_grants
      where table_schema = 'osp_metadata' and grantee in ('anon', 'authenticated')`);
    expect(rows).toEqual([]);
  });

  test("a schema that is not exposed is refused, and so is a wrong key", async () => {
    const { status } = await createClient(api.url, KEYS.SECRET_KEY).schema("storage").from("objects").select();
    expect(status).toBe(406);
    const wrong = await createClient(api.url, "sb_secret_wrong").schema("osp_metadata").from("things").select();
    expect(wrong.status).toBe(401);
  });

  test("a table that is made later is found", async () => {
    await sql.query("create table osp_metadata.later (id integer); grant select on osp_metadata.later to service_role");
    const data = await eventually(async () =>
      (await secret().schema("osp_metadata").from("later").select()).data ?? undefined
    );
    expect(data).toEqual([]);
  });
});

describe("Storage", () => {
  test("an object is written once, replaced when asked to, read, listed and removed", async () => {
    const bucket = secret().storage.from("manifests");
    const writeOnce = { contentType: "application/json", upsert: false };
    expect((await bucket.upload("telecom/1-abc.json", '{"a":1}', writeOnce)).error).toBeNull();
    expect((await bucket.upload("telecom/1-abc.json", '{"a":2}', writeOnce)).error).toMatchObject({
      statusCode: "409",
    });
    for (const text of ['{"a":3}', '{"a":4}']) {
      expect((await bucket.upload("telecom.json", text, { ...writeOnce, upsert: true })).error).toBeNull();
    }
    expect(await textOf("telecom/1-abc.json")).toBe('{"a":1}');
    expect(await textOf("telecom.json")).toBe('{"a":4}');
    expect((await bucket.info("telecom.json")).data).toMatchObject({ name: "telecom.json" });
    expect((await bucket.exists("telecom.json")).data).toBe(true);
    expect((await bucket.list("")).data?.map(({ name, id }) => [name, id !== null])).toEqual([
      ["telecom", false],
      ["telecom.json", true],
    ]);
    expect((await bucket.list("telecom")).data?.map(({ name }) => name)).toEqual(["1-abc.json"]);
    expect((await bucket.remove(["telecom.json"])).error).toBeNull();
    expect((await bucket.exists("telecom.json")).data).toBe(false);
    expect((await bucket.download("telecom.json")).error).toMatchObject({ statusCode: "404", code: "NoSuchKey" });
  });

  test("of uploads at the same time one is taken, and its bytes stay", async () => {
    const bucket = secret().storage.from("manifests");
    const uploads = await Promise.all(
      Array.from(
        { length: 12 },
        (_, n) => bucket.upload("race/1.json", `{"n":${n}}`, { contentType: "application/json" }),
      ),
    );
    const winner = uploads.findIndex(({ error }) => error === null);
    expect(uploads.map(({ error }) => error === null ? "ok" : Object(error).statusCode)).toEqual(
      uploads.map((_, n) => n === winner ? "ok" : "409"),
    );
    expect(await textOf("race/1.json")).toBe(`{"n":${winner}}`);
  });

  test("the bucket's limits hold, and the connection survives a refusal", async () => {
    const bucket = secret().storage.from("manifests");
    const json = { contentType: "application/json" };
    expect((await bucket.upload("big.json", "x".repeat(1_048_577), json)).error).toMatchObject({ statusCode: "413" });
    expect((await bucket.upload("fits.json", "x".repeat(1_048_576), json)).error).toBeNull();
    expect((await bucket.upload("a.txt", "x", { contentType: "text/plain" })).error).toMatchObject({
      statusCode: "415",
    });
    expect((await secret().storage.from("none").upload("a.json", "{}", json)).error).toMatchObject({
      statusCode: "404",
    });
  });

  test("without the secret key nothing is written, read or listed", async () => {
    const bucket = anonymous().storage.from("manifests");
    expect((await bucket.upload("anon.json", "{}", { contentType: "application/json" })).error).toMatchObject({
      statusCode: "403",
    });
    expect((await bucket.download("telecom/1-abc.json")).error).toMatchObject({ statusCode: "404" });
    expect((await bucket.list("")).data).toEqual([]);
  });

  test("no key leaves the bucket's directory, and no two keys share a file", () => {
    const keys = [
      "..",
      "../x",
      "../../x",
      "a/../../x",
      ".",
      "",
      "/",
      "//",
      "a",
      "a/b",
      "a@",
      "a@/b",
      "a%2Fb",
      "\0",
      "é",
      "..%2fx",
      "C:\\x",
    ];
    const paths = keys.map((key) => objectPath("/state", "b", key));
    expect(paths.filter((path) => !path.startsWith("/state/b/"))).toEqual([]);
    expect(new Set(paths).size).toBe(keys.length);
    expect(paths.filter((path) => paths.some((other) => other.startsWith(`${path}/`)))).toEqual([]);
    expect(objectPath("/state", "..", "x")).toBe("/state/%2E%2E/x");
  });

  test("objects outlive the server, and no half-written one is left", async () => {
    await secret().storage.from("manifests").upload("kept.json", "{}", { contentType: "application/json" });
    expect(await api.stop()).toBe(0);
    api = await startApi();
    expect(await textOf("kept.json")).toBe("{}");
    const files = readdirSync(`${directory.path}/state/storage`, { recursive: true }).map(String);
    expect(files.filter((name) => (name.split("/").at(-1) ?? "").startsWith("@"))).toEqual([]);
  });
});

describe("functions", () => {
  test("are away until their server runs, and then get method, path and body as sent", async () => {
    const away = await fetch(`${api.url}/functions/v1/echo`, { method: "POST" });
    expect(away.status).toBe(503);
    expect(await away.json()).toMatchObject({ code: "FUNCTIONS_AWAY" });
    const functions = createServer((request, response) => {
      response.writeHead(207, {
        "x-method": request.method,
        "x-path": request.url,
        "x-secret": request.headers["x-secret"],
      });
      request.pipe(response);
    }).listen(functionsPort, "127.0.0.1");
    await once(functions, "listening");
    try {
      const response = await fetch(`${api.url}/functions/v1/echo/deep?q=1`, {
        method: "PATCH",
        headers: { "x-secret": "s" },
        body: "x".repeat(3_000_000),
      });
      expect(response.status).toBe(207);
      expect(Object.fromEntries(response.headers)).toMatchObject({
        "x-method": "PATCH",
        "x-path": "/echo/deep?q=1",
        "x-secret": "s",
      });
      expect((await response.text()).length).toBe(3_000_000);
    } finally {
      functions.closeAllConnections();
      functions.close();
    }
  });
});

test("it outlives a restart of Postgres: 503 while that is away, answers when it is back", async () => {
  const before = api.child.pid;
  await sql.end();
  await database.stop();
  const away = await secret().schema("osp_metadata").from("things").select();
  expect(away.status).toBe(503);
  const { error } = await secret().storage.from("manifests").download("kept.json");
  expect(error).toMatchObject({ statusCode: "503" });
  await database.start();
  const since = Date.now();
  await eventually(async () => (await secret().schema("osp_metadata").from("things").select()).data ?? undefined);
  expect(Date.now() - since).toBeLessThan(3000);
  expect(await textOf("kept.json")).toBe("{}");
  sql = await connect(database.url);
  await sql.query("create table osp_metadata.after (id integer); grant select on osp_metadata.after to service_role");
  await eventually(async () => (await secret().schema("osp_metadata").from("after").select()).data ?? undefined);
  expect(api.child.pid).toBe(before);
});

test("stdout holds the ready line and nothing else", () => {
  expect(api.stdout().trimEnd().split("\n")).toEqual([
    JSON.stringify({ event: "ready", port: api.port, url: api.url }),
  ]);
});

test("all bad variables are named at once, and no secret is shown", async () => {
  const { code, stderr } = await runToEnd("local/api-server.ts", { SECRET_KEY: "hunter2", OSP_API_PORT: "99999" });
  expect(code).toBe(1);
  for (const name of ["DB_URL", "OSP_API_PORT", "SECRET_KEY", "PUBLISHABLE_KEY", "FUNCTIONS_INTERNAL_URL"]) {
    expect(stderr).toContain(name);
  }
  expect(stderr).not.toContain("hunter2");
});

test("a taken port is told with the variable that moves it", async () => {
  const { code, stderr } = await runToEnd("local/api-server.ts", { ...environment(), OSP_API_PORT: String(api.port) });
  expect(code).toBe(1);
  expect(stderr).toContain("OSP_API_PORT");
  expect(existsSync(`${directory.path}/state`)).toBe(true);
});

function environment() {
  return {
    DB_URL: database.url,
    OSP_API_PORT: "0",
    OSP_STATE_DIR: `${directory.path}/state`,
    FUNCTIONS_INTERNAL_URL: `http://127.0.0.1:${functionsPort}`,
    ...KEYS,
  };
}

function startApi(): Promise<TestProgram> {
  return startNode("local/api-server.ts", environment());
}

function secret() {
  return createClient(api.url, KEYS.SECRET_KEY, { auth: { persistSession: false } });
}

function anonymous() {
  return createClient(api.url, KEYS.PUBLISHABLE_KEY, { auth: { persistSession: false } });
}

async function textOf(key: string): Promise<string | undefined> {
  return await (await secret().storage.from("manifests").download(key)).data?.text();
}
