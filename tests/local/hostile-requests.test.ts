import { once } from "node:events";
import { createServer, request } from "node:http";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { useApi } from "../client/api.ts";
import { useDatabase } from "../support/database.ts";
import { type RawRequest, send, sendBytes } from "../support/raw-http.ts";
import { KEYS } from "./stand.ts";

// The Data API, Storage and what stands before them, asked by somebody who means no good.
const database = useDatabase();
const api = useApi(database);
const service = { "apikey": KEYS.SECRET_KEY };
const anybody = { "apikey": KEYS.PUBLISHABLE_KEY };
const row = { service_schema: "a", service_name: "A", workflows: [{ name: "w", activities: ["x"] }] };

/** A server on this machine that nobody is to reach through the API. */
const elsewhere = createServer((_, response) => response.end("reached elsewhere"));
beforeAll(() => once(elsewhere.listen(0, "127.0.0.1"), "listening"));
afterAll(() => void elsewhere.close());
const elsewherePort = () => Object(elsewhere.address()).port;

afterEach(async () => {
  await database.rows(`delete from osp.services`);
  // Whatever was asked: it serves the next one.
  expect((await send(api.url, { path: "/rest/v1/services", headers: { ...service, "accept-profile": "osp" } })).status)
    .toBe(200);
});

const post = (body: string | Uint8Array, headers: Record<string, string> = {}) =>
  send(api.url, {
    method: "POST",
    path: "/rest/v1/services",
    headers: { ...service, "content-type": "application/json", "content-profile": "osp", ...headers },
    body,
  });
const services = () => database.rows(`select service_schema, service_name from osp.services`);

describe("a path that leads elsewhere", () => {
  test.each([
    "/rest/v1/../../_system/info",
    "/rest/v1/../../_system/config",
    "/storage/v1/../../_system/introspect",
    "/rest/v1/%2e%2e/%2e%2e/_system/info",
    "/rest/v1/..\\..\\_system/info",
    "/rest/v1/x/../../../_system/info",
    "/functions/v1/../../_system/info",
    "/_system/info",
    "//rest/v1/../_system/info",
    "/",
  ])("%s is no route of ours", async (path) => {
    const { status, text } = await send(api.url, { path, headers: service });
    expect(status).toBe(404);
    expect(text).not.toMatch(/postgres|sb_|<html/);
  });

  test.each(["/rest/v1/..%2f..%2f_system/info", "/rest/v1/%252e%252e/_system/info"])("%s is no table", async (path) => {
    const { status, text } = await send(api.url, { path, headers: service });
    expect(status).toBe(404);
    expect(text).not.toMatch(/postgresql:|sb_/);
  });

  test.each([
    ["a host in the path", () => ({ path: `/functions/v1//127.0.0.1:${elsewherePort()}/x` })],
    ["a host behind a user", () => ({ path: `/functions/v1/@127.0.0.1:${elsewherePort()}/x` })],
    ["a path that makes no URL", () => ({ path: "/functions/v1//[" })],
    ["a port that is none", () => ({ path: "/functions/v1//:99999/" })],
    [
      "another host in the header",
      () => ({ path: "/functions/v1/x", headers: { host: `127.0.0.1:${elsewherePort()}` } }),
    ],
  ])("%s reaches the functions server or nobody", async (_, asked) => {
    const { status, text } = await send(api.url, asked());
    expect({ status, text }).toMatchObject({ status: 503, text: expect.stringContaining("FUNCTIONS_AWAY") });
  });

  test.each(["a b", "x/rest/v1/../../_system/info#", "user:password@host", "h\\x", "h?x", "[::1"])(
    "the Host header %j decides nothing",
    async (host) => {
      const { status, text } = await send(api.url, { path: "/rest/v1/services", headers: { ...service, host } });
      expect([400, 404]).toContain(status);
      expect(text).not.toMatch(/postgresql:|stack/);
    },
  );

  test.each([
    "GET http://127.0.0.1/_system/info HTTP/1.1\r\nHost: x\r\n\r\n",
    "CONNECT 127.0.0.1:5432 HTTP/1.1\r\nHost: x\r\n\r\n",
    "GET /rest/v1/services HTTP/1.1\r\n\r\n",
    "GET /rest/v1/services HTTP/1.1\r\nHost: x\r\nApikey : x\r\n\r\n",
    "POST /rest/v1/services HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "GET /rest/v1/services\0 HTTP/1.1\r\nHost: x\r\n\r\n",
    "\u0016\u0003\u0001\u0002",
    "nonsense\r\n\r\n",
  ])("bytes like %j get a refusal", async (bytes) => {
    const answer = await sendBytes(api.url, bytes);
    expect(answer === "" || /^HTTP\/1\.1 4\d\d /.test(answer)).toBe(true);
    expect(answer).not.toMatch(/postgresql:/);
  });

  test.each(["TRACE", "PROPFIND", "QUERY"])("%s is not served", async (method) => {
    expect((await send(api.url, { method, path: "/rest/v1/services", headers: service })).status)
      .toBeGreaterThanOrEqual(400);
  });
});

describe("a body that is no row", () => {
  test.each([
    ["cut off", '{"service_schema":'],
    ["empty", ""],
    ["a number", "5"],
    ["null", "null"],
    ["a text", '"a"'],
    ["no JSON", "service_schema=a"],
    ["two documents", "{}{}"],
    ["NaN", '{"service_schema": NaN}'],
    ["a comment", '{"service_schema": "a" /* */}'],
    [
      "20,000 levels of lists",
      `{"service_schema":"a","service_name":"A","workflows":${"[".repeat(20_000)}${"]".repeat(20_000)}}`,
    ],
    ["20,000 levels that stay open", "[".repeat(20_000)],
    ["20,000 levels of objects", `${'{"a":'.repeat(20_000)}1${"}".repeat(20_000)}`],
    ["a column __proto__", JSON.stringify(row).replace("{", '{"__proto__":{"polluted":true},')],
    ["a column constructor", JSON.stringify({ ...row, constructor: { prototype: { polluted: true } } })],
    ["a column that is SQL", JSON.stringify({ ...row, '"; drop table osp.services; --': 1 })],
    ["an id that is SQL", JSON.stringify({ ...row, id: "x'; drop table osp.services; --" })],
    ["a name with NUL", JSON.stringify({ ...row, service_name: "a\0" })],
    ["a name with half a character", JSON.stringify({ ...row, service_name: "a\ud800" })],
    [
      "a workflow with half a character",
      JSON.stringify({ ...row, workflows: [{ name: "a\udfff", activities: ["x"] }] }),
    ],
    ["a workflow with NUL", JSON.stringify({ ...row, workflows: [{ name: "a\0", activities: ["x"] }] })],
  ])("%s is refused with 400 and a reason", async (_, body) => {
    const { status, text } = await post(body);
    expect({ status, text }).toMatchObject({ status: 400 });
    expect(JSON.parse(text)).toMatchObject({
      code: expect.stringMatching(/^(PGRST1\d\d|PGRST204|22...|23514)$/),
      message: expect.any(String),
    });
    expect(text).not.toMatch(/stack|\.ts:|\.js:|postgresql:/);
    expect(await services()).toEqual([]);
    expect(Object.hasOwn(Object.prototype, "polluted")).toBe(false);
  });

  test.each(["application/json", "", "text/csv"])("broken UTF-8 is refused, not replaced (%j)", async (type) => {
    const text = type === "text/csv"
      ? "service_schema,service_name\na,aXb"
      : JSON.stringify({ ...row, service_name: "aXb" });
    const bytes = Buffer.from(text);
    bytes[bytes.indexOf("X")] = 0xff;
    expect(await post(bytes, { "content-type": type })).toMatchObject({
      status: 400,
      text: expect.stringContaining("22021"),
    });
  });

  test("without a content type it is JSON, and judged as such", async () => {
    expect((await post(JSON.stringify(row), { "content-type": "" })).status).toBe(201);
    const half = JSON.stringify({ ...row, service_name: "a\ud800" });
    expect((await post(half, { "content-type": "" })).status).toBe(400);
  });

  test.each([
    "text/plain",
    "text/html",
    "application/xml",
    "multipart/form-data; boundary=x",
    "application/octet-stream",
    "json",
  ])(
    "of content type %j is refused",
    async (type) => {
      expect((await post(JSON.stringify(row), { "content-type": type })).status).toBeGreaterThanOrEqual(400);
      expect(await services()).toEqual([]);
    },
  );

  test("more than 64 MiB is refused with 413", async () => {
    expect(await post(`{"service_name":"${"x".repeat(64 * 1024 * 1024)}"}`)).toMatchObject({ status: 413 });
  });

  test("one without an end is cut off", async () => {
    const { hostname, port } = new URL(api.url);
    const sent = request({
      ...{ hostname, port, method: "POST", path: "/rest/v1/services", agent: false },
      headers: { ...service, "content-type": "application/json", "content-profile": "osp" },
    });
    sent.on("response", (response) => response.resume());
    const blocks = Array.from({ length: 1000 }, () => "x".repeat(1024 * 1024)); // in memory it is one
    await expect(pipeline(Readable.from(blocks), sent)).rejects.toThrow(/EPIPE|ECONNRESET|socket hang up/);
  });
});

describe("what a filter, a header or a key holds", () => {
  const read = (query: string, headers: RawRequest["headers"] = {}) =>
    send(api.url, { path: `/rest/v1/services?${query}`, headers: { ...service, "accept-profile": "osp", ...headers } });

  test.each([
    "service_schema=eq.a';drop%20table%20osp.services;--",
    "service_schema=in.(a,%22;drop%20table%20osp.services%22)",
    "service_schema=like.%25%27",
    "limit=1;drop%20table%20osp.services",
    "offset=0)%20union%20select%20usename,passwd%20from%20pg_shadow--",
    "on_conflict=id)%20do%20nothing;drop%20table%20osp.services",
  ])("%s is data or a refusal", async (query) => {
    await post(JSON.stringify(row));
    const { status, text } = await read(query);
    expect([200, 400]).toContain(status);
    expect(text).not.toMatch(/passwd|postgresql:/);
    expect(await services()).toEqual([{ service_schema: "a", service_name: "A" }]);
  });

  test.each([
    "select=id,(select%201)",
    "select=pg_sleep(10)",
    "select=id%22;drop%20table%20osp.services;--",
    "select=*,pg_shadow(*)",
    "order=id;drop%20table%20osp.services",
    "no_such_column=eq.1",
    "id=foo.1",
    "id=eq.x'",
  ])("%s is refused", async (query) => {
    expect(await read(query)).toMatchObject({ status: 400 });
  });

  test.each([
    "pg_catalog",
    "vault",
    "storage",
    "information_schema",
    'osp"; drop schema osp; --',
    "osp,osp_metadata",
    "",
  ])(
    "the profile %j opens nothing that is not exposed",
    async (profile) => {
      const { status, text } = await read("limit=1", { "accept-profile": profile });
      expect([404, 406]).toContain(status);
      expect(text).not.toMatch(/secret/);
    },
  );

  test.each([
    ["none", {}],
    ["an empty one", { apikey: "" }],
    ["a wrong one", { apikey: "sb_secret_wrong" }],
    ["half of the right one", { apikey: KEYS.SECRET_KEY.slice(0, -1) }],
    ["the right one and more", { apikey: `${KEYS.SECRET_KEY}x` }],
    ["the right one in another place", { authorization: `Bearer ${KEYS.SECRET_KEY}` }],
    ["the right one, twice", { apikey: [KEYS.SECRET_KEY, KEYS.SECRET_KEY] }],
    ["SQL", { apikey: "' or 1=1 --" }],
  ])("with %s as the key nothing is read", async (_, headers) => {
    const { status, text } = await send(api.url, {
      path: "/rest/v1/services",
      headers: { "accept-profile": "osp", ...headers },
    });
    expect(status).toBe(401);
    expect(text).not.toContain(KEYS.SECRET_KEY);
  });

  test("the public key reads and writes nothing of ours, and no bucket", async () => {
    for (const profile of ["osp", "osp_metadata"]) {
      for (const table of ["services", "worker_registry", "service_intents", "platforms", "worker_status"]) {
        const path = `/rest/v1/${table}`;
        const { status } = await send(api.url, { path, headers: { ...anybody, "accept-profile": profile } });
        expect([401, 404]).toContain(status);
      }
    }
    const list = await send(api.url, { path: "/storage/v1/bucket", headers: anybody });
    expect(JSON.parse(list.text)).toEqual([]);
  });

  test("no answer and no line of the log holds a key or the database's URL", async () => {
    await read("select=nonsense(");
    await send(api.url, { path: "/rest/v1/%00", headers: service });
    await send(api.url, { path: "/rest/v1/services", headers: { ...service, host: "a b" } });
    expect(api.log()).not.toContain(KEYS.SECRET_KEY);
    expect(api.log()).not.toContain("postgres:postgres");
    for (const line of api.log().split("\n").filter(Boolean)) expect(line).toMatch(/^\{.*\}$/);
  });
});

describe("Storage", () => {
  test.each([
    "/storage/v1/object/manifests/..%2f..%2f..%2fetc%2fpasswd",
    "/storage/v1/object/manifests/%2e%2e%2f%2e%2e%2fx.json",
    "/storage/v1/object/..%2f..%2fmanifests/x.json",
    "/storage/v1/object/manifests//etc/passwd",
    "/storage/v1/object/manifests/%00.json",
    "/storage/v1/object/manifests/..%5c..%5cx.json",
    "/storage/v1/object/list/../../../x",
  ])("%s is no object", async (path) => {
    for (const method of ["GET", "POST", "DELETE"]) {
      const { status, text } = await send(api.url, {
        method,
        path,
        headers: { ...service, "content-type": "application/json" },
        ...(method === "POST" ? { body: "{}" } : {}),
      });
      expect({ method, status, text }).toMatchObject({ status: expect.toSatisfy((code: number) => code >= 400) });
      expect(text).not.toMatch(/root:/);
    }
  });
});
