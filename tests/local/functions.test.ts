import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { functionsServerCommand } from "../../local/functions-server-command.ts";
import { eventually, startProgram, temporaryDirectory, type TestProgram } from "./stand.ts";

const functions: Record<string, string> = {
  hello: `Deno.serve(async (request) => Response.json({
    path: new URL(request.url).pathname, method: request.method, body: await request.text(), secret: Deno.env.get("A_SECRET") }));`,
  "with-options": `Deno.serve({ port: 1 }, () => new Response("options"));`,
  exported: `export default { greeting: "exported", fetch() { return new Response(this.greeting); } };`,
  broken: `throw new Error("A_SETTING is not set");`,
  empty: `export const nothing = 1;`,
  throws: `Deno.serve(() => { throw new Error("inside"); });`,
  behind: `let done = "no";
    Deno.serve((request) => {
      if (request.method === "GET") return new Response(done);
      EdgeRuntime.waitUntil(Promise.resolve().then(() => { done = "yes"; }));
      return new Response("accepted");
    });`,
  zod: `import { z } from "zod"; import { createClient } from "@supabase/supabase-js";
    Deno.serve(() => new Response(typeof createClient + z.string().parse("!")));`,
  _shared: `throw new Error("not a function");`,
};

const directory = temporaryDirectory();
let server: TestProgram;

beforeAll(async () => {
  for (const [name, source] of Object.entries(functions)) {
    mkdirSync(join(directory.path, name));
    writeFileSync(join(directory.path, name, "index.ts"), source);
  }
  server = await start();
});

afterAll(async () => {
  const code = await server.stop();
  directory.remove();
  expect(code).toBe(0);
});

test("a function gets the request with its own name first in the path", async () => {
  const response = await fetch(`${server.url}/hello/deep?q=1`, { method: "PUT", body: "b" });
  expect(await response.json()).toEqual({ path: "/hello/deep", method: "PUT", body: "b", secret: "s" });
});

test.each([["with-options", "options"], ["exported", "exported"]])("%s is served", async (name, text) => {
  expect(await (await fetch(`${server.url}/${name}`)).text()).toBe(text);
});

test.each(["unknown", "_shared", ""])('"%s" is not a function', async (name) => {
  const response = await fetch(`${server.url}/${name}`);
  expect({ status: response.status, text: await response.text() }).toEqual({ status: 404, text: "Function not found" });
});

test("a function that does not load says why, and the others are served", async () => {
  const broken = await fetch(`${server.url}/broken`);
  expect(broken.status).toBe(503);
  expect(await broken.json()).toEqual({ code: "BOOT_ERROR", message: "A_SETTING is not set" });
  expect((await fetch(`${server.url}/empty`)).status).toBe(503);
});

test("a function that throws answers 500, and its error is logged", async () => {
  expect((await fetch(`${server.url}/throws`)).status).toBe(500);
  await eventually(() => server.stderr().includes("inside") ? true : undefined);
});

test("work goes on behind an answer", async () => {
  await (await fetch(`${server.url}/behind`, { method: "POST" })).text();
  await eventually(async () => await (await fetch(`${server.url}/behind`)).text() === "yes" ? true : undefined);
});

test("a taken port is told with the variable that moves it", async () => {
  await expect(start({ OSP_FUNCTIONS_PORT: String(server.port) })).rejects.toThrow(/ended with 1.*OSP_FUNCTIONS_PORT/s);
});

test("the project's own function loads from node_modules, offline, and asks for its secret", async () => {
  const command = functionsServerCommand();
  const own = await startProgram(command.command, command.arguments, {
    SUPABASE_URL: "http://127.0.0.1:9",
    SUPABASE_SECRET_KEYS: '{"default":"sb_secret_x"}',
    OSP_WEBHOOK_SECRET: "a-secret-of-sixteen",
  });
  try {
    const response = await fetch(`${own.url}/queue-worker-build`, { method: "POST" });
    expect(response.status).toBe(401);
    await response.text();
  } finally {
    expect(await own.stop()).toBe(0);
  }
});

function start(environment: Record<string, string> = {}): Promise<TestProgram> {
  const command = functionsServerCommand(directory.path);
  return startProgram(command.command, command.arguments, { A_SECRET: "s", ...environment });
}
