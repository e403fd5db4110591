import { afterAll, beforeAll, expect, test } from "vitest";
import { createSigner, SIGNATURE_HEADER } from "../../supabase/functions/_shared/activity-signature.ts";
import { runToEnd, startNode, type TestProgram } from "./stand.ts";

let server: TestProgram;
beforeAll(async () => {
  server = await startNode("local/activity-server.ts", { OSP_ACTIVITY_PORT: "0" });
});
afterAll(async () => {
  expect(await server.stop()).toBe(0);
});

test("activities that feed each other answer with their steps and the first input", async () => {
  const input = { customer: 7 };
  const first = await (await call("billing", "calculateCharges", input)).json();
  const second = await (await call("billing", "sendInvoice", first)).json();
  expect(first).toEqual({ steps: ["calculateCharges"], input });
  expect(second).toEqual({ steps: ["calculateCharges", "sendInvoice"], input });
});

test("a workflow without input is served", async () => {
  expect(await (await call("billing", "sweep", null)).json()).toEqual({ steps: ["sweep"], input: null });
});

test("the same call has the same answer", async () => {
  const answers = await Promise.all([1, 2].map(async () => await (await call("billing", "a", { n: 1 })).text()));
  expect(answers[0]).toBe(answers[1]);
});

test.each([
  ["a body that is not JSON", "/billing/a", "{", "The body must be JSON"],
  ["a body without an activity", "/billing/a", '{"service_schema":"billing","input":1}', "activity"],
  ["a path of another activity", "/billing/b", bodyOf("billing", "a", 1), "/billing/a"],
])("%s is refused", async (_case, path, body, message) => {
  const response = await fetch(`${server.url}${path}`, { method: "POST", body });
  expect(response.status).toBe(400);
  expect(await response.json()).toMatchObject({ message: expect.stringContaining(message) });
});

test("with a secret, what is not signed by it is refused", async () => {
  const secret = "of-the-activities-of-a-stack";
  const guarded = await startNode("local/activity-server.ts", { OSP_ACTIVITY_PORT: "0", OSP_ACTIVITY_SECRET: secret });
  try {
    const body = bodyOf("billing", "a", 1);
    const post = (headers: Record<string, string>) =>
      fetch(`${guarded.url}/billing/a`, { method: "POST", headers, body });
    const signed = async (by: string) => ({
      [SIGNATURE_HEADER]: await createSigner([by])(body, Date.now() / 1000 | 0),
    });
    expect((await post({})).status).toBe(401);
    expect((await post(await signed("of-somebody-else-altogether"))).status).toBe(401);
    expect(await (await post(await signed(secret))).json()).toEqual({ steps: ["a"], input: 1 });
  } finally {
    await guarded.stop();
  }
});

test("a GET is refused", async () => {
  expect((await fetch(`${server.url}/billing/a`)).status).toBe(405);
});

test("a taken port is told with the variable that moves it", async () => {
  const { code, stderr, stdout } = await runToEnd("local/activity-server.ts", {
    OSP_ACTIVITY_PORT: String(server.port),
  });
  expect({ code, stdout }).toEqual({ code: 1, stdout: "" });
  expect(stderr).toContain(`127.0.0.1:${server.port}`);
  expect(stderr).toContain("OSP_ACTIVITY_PORT");
});

function call(service_schema: string, activity: string, input: unknown): Promise<Response> {
  const body = bodyOf(service_schema, activity, input);
  return fetch(`${server.url}/${service_schema}/${activity}`, { method: "POST", body });
}

function bodyOf(service_schema: string, activity: string, input: unknown): string {
  return JSON.stringify({
    service_schema,
    revision: 1,
    workflow_id: "w",
    run_id: "r",
    workflow_type: "t",
    activity,
    attempt: 1,
    idempotency_key: "r/1",
    input,
  });
}
