import { execa } from "execa";
import { createServer } from "node:net";
import { once } from "node:events";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { isRunning, type ProcessIdentity } from "../../host/process-identity.ts";
import { firstExample } from "../../local/examples.ts";
import { eventually } from "../support/services.ts";
import { createStackDirectory } from "../support/stack.ts";

// An answer that is lost on its way holds its intent up until the lease ends, 30 s.
vi.setConfig({ testTimeout: 150_000 });
const stack = createStackDirectory();
const example = firstExample().service;
let main: ReturnType<typeof stack.start>;
beforeAll(async () => {
  main = stack.start();
  await main.running();
});
afterAll(() => stack.clear());

const stateOf = async (schema: string) =>
  (await stack.query<{ state: string }>(`select state from osp_metadata.worker_status where service_schema = $1`, [
    schema,
  ]))[0]?.state;
const reaches = (schema: string, state: string, timeoutMs = 90_000) =>
  eventually(() => stateOf(schema).catch(() => undefined), (current) => current === state, timeoutMs);
const insert = (schema: string, options = {}) =>
  stack.query(
    `insert into osp.services (service_schema, service_name, workflows, options) values ($1, 'S', '[{"name":"w","activities":["x"]}]', $2)`,
    [schema, options],
  );
/** Ends one program of the stack for good measure; the stack starts it again. */
function kill(name: string, signal: NodeJS.Signals = "SIGKILL"): ProcessIdentity {
  const identity = stack.processes()[name];
  if (identity === undefined) throw new Error(`no process ${name}`);
  process.kill(identity.pid, signal);
  return identity;
}

test("shows a row on its way, its workflows' results and where to look next", async () => {
  expect(main.output()).toMatch(/requested\n.*pending\n.*deploying\n.*deployed\n/);
  for (const { name, activities } of example.workflows) {
    expect(main.output()).toMatch(
      new RegExp(`${name} returned \\{"steps":${JSON.stringify(activities).replaceAll(/[[\]]/g, "\\$&")}`),
    );
  }
  expect(main.output()).toContain("stack.env");
  const status =
    `SELECT service_schema, deployment_status, deployed_at, logs FROM osp_metadata.worker_registry WHERE service_schema = '${example.service_schema}'`;
  expect(await stack.query(status)).toMatchObject([{ deployment_status: "deployed", deployed_at: expect.any(Date) }]);
});

test("stack.env has the names of `supabase status -o env`", () => {
  expect(Object.keys(stack.addresses())).toEqual(
    expect.arrayContaining(["API_URL", "FUNCTIONS_URL", "DB_URL", "PUBLISHABLE_KEY", "SECRET_KEY", "TEMPORAL_ADDRESS"]),
  );
});

test("the real function answers 401 without the secret, 405 to a GET, and says what it did", async () => {
  const { FUNCTIONS_URL, OSP_WEBHOOK_SECRET = "" } = stack.addresses();
  const url = `${FUNCTIONS_URL}/queue-worker-build`;
  const secret = { "x-osp-webhook-secret": OSP_WEBHOOK_SECRET };
  expect((await fetch(url, { method: "POST" })).status).toBe(401);
  expect((await fetch(url, { method: "POST", headers: { "x-osp-webhook-secret": "wrong" } })).status).toBe(401);
  expect((await fetch(url, { headers: secret })).status).toBe(405);
  const answer = await fetch(url, { method: "POST", headers: secret, body: "anything" });
  expect(await answer.json()).toEqual({ taken: 0, enqueued: 0, rejected: 0, remaining: 0 });
  const stored = await stack.query<{ name: string }>(
    `select name from storage.objects where bucket_id = 'manifests' order by name`,
  );
  expect(stored.map(({ name }) => name)).toEqual([
    `${example.service_schema}.json`,
    expect.stringMatching(new RegExp(`^${example.service_schema}/1-[0-9a-f]{64}\\.json$`)),
  ]);
});

test("a second start on the same state says that one runs", async () => {
  const second = stack.start();
  await second.exited;
  expect(second.process.exitCode).toBe(1);
  expect(second.output()).toContain(`process ${main.process.pid}`);
});

test("a taken port is named with the setting that moves it", async () => {
  const taken = createServer().listen(0, "127.0.0.1");
  await once(taken, "listening");
  const address = taken.address();
  const port = typeof address === "object" && address ? address.port : 0;
  const other = createStackDirectory();
  const refused = other.start({ OSP_API_PORT: String(port) });
  await refused.exited;
  taken.close();
  await other.clear();
  expect(refused.process.exitCode).toBe(1);
  expect(refused.output()).toContain(`port ${port} is taken: set OSP_API_PORT`);
});

test("the doorbell rings the function: nobody had to poll", async () => {
  await insert("rung");
  await reaches("rung", "running");
  expect(await stack.query(`select status_code from net._http_response where status_code = 200 limit 1`)).toEqual([{
    status_code: 200,
  }]);
});

test("the Edge Function away: the row waits and is deployed when it is back", async () => {
  const functions = stack.processes()["functions"];
  kill("functions", "SIGSTOP");
  await insert("while_functions_are_away");
  await eventually(
    () => stack.query<{ count: number }>(`select count(*)::int as count from net._http_response where timed_out`),
    ([row]) => (row?.count ?? 0) > 0,
    30_000,
  );
  expect(await stateOf("while_functions_are_away")).toBe("waiting");
  process.kill(functions?.pid ?? 0, "SIGCONT");
  await reaches("while_functions_are_away", "running");
});

test.each(["functions", "api", "doorbell", "temporal", "deployer"])(
  "%s killed: it is started again and a new row is deployed",
  async (name) => {
    const before = kill(name);
    await insert(`after_${name}_died`);
    await reaches(`after_${name}_died`, "running");
    expect(stack.processes()[name]?.pid).not.toBe(before.pid);
  },
);

test("connections of every program cut at once, as a restart of Postgres does: a row in the middle is deployed", async () => {
  await insert("before_the_cut");
  await stack.query(
    `select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid() and backend_type = 'client backend'`,
  );
  await reaches("before_the_cut", "running");
  await insert("after_the_cut");
  await reaches("after_the_cut", "running");
});

test.each(["SIGKILL", "SIGINT"] as const)(
  "Postgres ended by %s: it is started again and the row in the middle is deployed",
  async (signal) => {
    const schema = `around_${signal.toLowerCase()}`;
    await insert(schema);
    const before = kill("postgres", signal);
    await eventually(() => Promise.resolve(stack.processes()["postgres"]?.pid), (pid) => pid !== before.pid);
    await reaches(schema, "running");
    await eventually(() => insert(`${schema}_after`).then(() => true, () => false), (isIn) => isIn);
    await reaches(`${schema}_after`, "running");
  },
);

test("an endpoint of the row's own that nobody serves does not keep its worker from being deployed", async () => {
  await insert("unreachable_endpoint", { activity_endpoint: "http://127.0.0.1:9/{activity}" });
  await reaches("unreachable_endpoint", "running");
});

test("after SIGKILL the next start recovers: state, workers and all", async () => {
  // Enough workers for the proof: a small machine starts about two a second.
  await stack.query(`delete from osp.services where service_schema like 'after_%' or service_schema like 'around_%'`);
  await eventually(
    () => stack.query(`select from osp_metadata.worker_status where state in ('waiting', 'stopping')`),
    (rows) => rows.length === 0,
  );
  const before = Object.values(stack.processes());
  await main.end("SIGKILL");
  main = stack.start();
  await main.running();
  expect(before.filter((identity) => isRunning(identity))).toEqual([]);
  expect(await stateOf(example.service_schema)).toBe("running");
  await insert("after_the_kill");
  await reaches("after_the_kill", "running");
});

test("whatever somebody made of the example's row, the next start shows it and stays up", async () => {
  await stack.query(`update osp.services set workflows = $2, options = $3 where service_schema = $1`, [
    example.service_schema,
    JSON.stringify([{ name: "newOne", activities: ["first"] }]),
    { activity_endpoint: "http://127.0.0.1:9/{activity}", activity_max_attempts: 1 },
  ]);
  await reaches(example.service_schema, "running");
  expect(await main.end("SIGINT")).toBe(0);
  main = stack.start();
  await main.running();
  expect(main.output()).toContain(`${example.service_schema} is already in osp.services`);
  expect(main.output()).toMatch(/newOne failed: .*ECONNREFUSED/);
  await stack.query(`update osp.services set enabled = false where service_schema = $1`, [example.service_schema]);
  await reaches(example.service_schema, "stopped");
  expect(await main.end("SIGINT")).toBe(0);
  main = stack.start();
  await main.running();
  expect(main.output()).toContain("It is disabled");
  await stack.query(`update osp.services set enabled = true where service_schema = $1`, [example.service_schema]);
  await reaches(example.service_schema, "running");
});

test("Ctrl-C leaves no process behind, workers included, and the next start brings them back", async () => {
  const workers = await stack.query<{ pid: number }>(
    `select platform_deployment_id::int as pid from osp_metadata.worker_registry where deployment_status = 'deployed'`,
  );
  const before = Object.values(stack.processes());
  expect(await main.end("SIGINT")).toBe(0);
  expect(before.filter((identity) => isRunning(identity))).toEqual([]);
  const { stdout } = await execa("ps", ["-eo", "pid,args"]).catch(() => ({ stdout: "" }));
  expect(stdout).not.toContain(stack.directory);
  expect(workers.length).toBeGreaterThan(2);
  main = stack.start();
  await main.running();
  await reaches(example.service_schema, "running");
  expect(await main.end("SIGTERM")).toBe(0);
});
