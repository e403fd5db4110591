import { createClient } from "@supabase/supabase-js";
import { once } from "node:events";
import { createServer } from "node:http";
import { beforeEach, expect, test } from "vitest";
import {
  createOspClient,
  DeploymentAbortedError,
  type DeploymentProgress,
  DeploymentTimeoutError,
  InvalidServiceError,
  TransportError,
} from "../../client/index.ts";
import { freePort } from "../../host/free-port.ts";
import { KEYS } from "../local/stand.ts";
import { useDatabase } from "../support/database.ts";
import { createTestHandler, ring } from "../support/edge-function.ts";
import { clearServices, insertService, registryOf, workflows } from "../support/services.ts";
import { useApi } from "./api.ts";

const service = { serviceSchema: "a", serviceName: "A Service", workflows };

const database = useDatabase();
const handler = createTestHandler(database);
const api = useApi(database);
beforeEach(() => clearServices(database));

/** Brings a revision to a status, as a deployer does. */
function settle(revision: number, deployment_status: "deploying" | "deployed" | "stopped") {
  const changes = {
    deploying: `lease_token = gen_random_uuid()`,
    deployed: `lease_token = null, deployed_at = clock_timestamp()`,
    stopped: `lease_token = null, stopped_at = clock_timestamp()`,
  };
  return database.rows(
    `update osp_metadata.worker_registry set deployment_status = $1, ${changes[deployment_status]} where revision = $2`,
    [deployment_status, revision],
  );
}

/** Answers each progress, once, with what is to happen next: the test goes at the pace of the client. */
function react(steps: Record<string, () => Promise<unknown>>) {
  const seen: string[] = [];
  const taken: Promise<unknown>[] = [];
  return {
    seen,
    onProgress({ revision, deployment_status }: DeploymentProgress) {
      const status = `${revision} ${deployment_status}`;
      seen.push(status);
      taken.push(steps[status]?.() ?? Promise.resolve());
    },
    finished: () => Promise.all(taken),
  };
}

async function failureOf(call: Promise<unknown>): Promise<unknown> {
  return await call.then(() => undefined, (error: unknown) => error);
}

const servicesWritten = () => database.rows(`select service_schema from osp.services`);

test("returns at once, with the id that the registry's row gets", async () => {
  const requested = await api.client.deployWorkerForService(service);
  expect(requested).toEqual({
    success: true,
    service_schema: "a",
    manifest_path: "manifests/a.json",
    deployment_id: expect.stringMatching(/^[0-9a-f-]{36}$/),
    revision: 1,
    deployment_status: "requested",
  });
  expect(await registryOf(database, "a")).toEqual([]);
  await handler(ring());
  expect(await registryOf(database, "a")).toMatchObject([{
    id: requested.deployment_id,
    deployment_status: "pending",
  }]);
});

test("the same call many times is one deployment", async () => {
  const answers = await Promise.all(Array.from({ length: 5 }, () => api.client.deployWorkerForService(service)));
  await handler(ring());
  answers.push(await api.client.deployWorkerForService(service));
  expect(new Set(answers.map(({ deployment_id }) => deployment_id)).size).toBe(1);
  expect(await registryOf(database, "a")).toHaveLength(1);
});

test("another content is another deployment; options that are left out are kept", async () => {
  await api.client.deployWorkerForService({ ...service, options: { activity_timeout_seconds: 7 } });
  expect(await api.client.deployWorkerForService({ ...service, serviceName: "Another" })).toMatchObject({
    revision: 2,
  });
  expect(await database.rows(`select service_name, options from osp.services`)).toEqual([
    { service_name: "Another", options: { activity_timeout_seconds: 7 } },
  ]);
});

test("waits until it is deployed, and tells of each change", async () => {
  const progress = react({
    "1 requested": () => handler(ring()),
    "1 pending": () => settle(1, "deploying"),
    "1 deploying": () => settle(1, "deployed"),
  });
  const { onProgress } = progress;
  expect(await api.client.deployWorkerForService(service, { wait: true, onProgress })).toMatchObject({
    success: true,
    deployment_status: "deployed",
  });
  await progress.finished();
  expect(progress.seen).toEqual(["1 requested", "1 pending", "1 deploying", "1 deployed"]);
});

test("a deployment that fails is an answer, with the reason", async () => {
  const withoutEndpoint = createTestHandler(database, { defaults: { activityEndpoint: undefined } });
  const progress = react({ "1 requested": () => withoutEndpoint(ring()) });
  const { onProgress } = progress;
  const failed = await api.client.deployWorkerForService(service, { wait: true, onProgress });
  await progress.finished();
  expect(failed).toMatchObject({
    success: false,
    service_schema: "a",
    deployment_id: (await registryOf(database, "a"))[0]?.id,
    deployment_status: "failed",
    error: expect.stringContaining("activity_endpoint"),
  });
});

test("a newer revision that takes its place is followed, and named in the answer", async () => {
  const progress = react({
    "1 requested": () => handler(ring()),
    "1 pending": () =>
      api.client.deployWorkerForService({ ...service, serviceName: "Newer" }).then(() => handler(ring())),
    "2 pending": () => settle(2, "deployed"),
  });
  const { onProgress } = progress;
  const deployed = await api.client.deployWorkerForService(service, { wait: true, onProgress });
  await progress.finished();
  const [older, newer] = await registryOf(database, "a");
  expect(older).toMatchObject({ revision: 1, deployment_status: "stopped" });
  expect(deployed).toMatchObject({ success: true, revision: 2, deployment_id: newer?.id });
});

test("a newer revision that fails takes nothing from one that is deployed", async () => {
  const progress = react({
    "1 requested": () => handler(ring()),
    "1 pending": async () => {
      await database.rows(`update osp.services set options = '{"colour": "red"}'`);
      await handler(ring());
      await settle(1, "deployed");
    },
  });
  const { onProgress } = progress;
  const deployed = await api.client.deployWorkerForService(service, { wait: true, onProgress });
  await progress.finished();
  expect(deployed).toMatchObject({ success: true, revision: 1 });
  expect(await registryOf(database, "a")).toMatchObject([{}, { revision: 2, deployment_status: "failed" }]);
});

test("a service that is deleted meanwhile ends as stopped", async () => {
  const progress = react({
    "1 requested": () => handler(ring()),
    "1 pending": () => database.rows(`delete from osp.services`).then(() => handler(ring())),
    "2 pending": () => settle(2, "stopped"),
  });
  const { onProgress } = progress;
  expect(await api.client.deployWorkerForService(service, { wait: true, onProgress })).toMatchObject({
    success: false,
    deployment_status: "stopped",
    error: expect.stringMatching(/service "a" is stopped: ./),
  });
  await progress.finished();
});

test("a signal ends the wait, not the deployment", async () => {
  const controller = new AbortController();
  const reason = new Error("no longer of interest");
  const failure = await failureOf(api.client.deployWorkerForService(service, {
    wait: true,
    signal: controller.signal,
    onProgress: () => controller.abort(reason),
  }));
  expect(failure).toBeInstanceOf(DeploymentAbortedError);
  expect(failure).toMatchObject({ message: expect.stringMatching(/revision 1 of service "a", which is requested/) });
  expect(failure).toMatchObject({ cause: reason });
  await handler(ring());
  expect(await registryOf(database, "a")).toMatchObject([{ deployment_status: "pending" }]);
});

test("a signal that was given before writes nothing", async () => {
  const call = api.client.deployWorkerForService(service, { signal: AbortSignal.abort() });
  await expect(call).rejects.toThrow(DeploymentAbortedError);
  expect(await servicesWritten()).toEqual([]);
});

test("a wait that takes too long ends; the deployment goes on", async () => {
  await api.client.deployWorkerForService(service);
  const failure = await failureOf(api.client.deployWorkerForService(service, { wait: true, timeoutMs: 1000 }));
  expect(failure).toBeInstanceOf(DeploymentTimeoutError);
  expect(failure).toMatchObject({ message: expect.stringContaining("1000 ms are over") });
  await handler(ring());
  expect(await registryOf(database, "a")).toMatchObject([{ deployment_status: "pending" }]);
});

test("an API that never answers is not waited for", async () => {
  const deaf = createServer(() => {}).listen(0, "127.0.0.1");
  await once(deaf, "listening");
  try {
    const address = deaf.address();
    const url = `http://127.0.0.1:${Object(address).port}`;
    const patient = createOspClient({ url, secretKey: KEYS.SECRET_KEY });
    await expect(patient.deployWorkerForService(service, { timeoutMs: 200 })).rejects.toThrow(DeploymentTimeoutError);
    const controller = new AbortController();
    deaf.once("request", () => controller.abort());
    const call = patient.queueWorkerBuild("a", { signal: controller.signal });
    await expect(call).rejects.toThrow(DeploymentAbortedError);
  } finally {
    deaf.closeAllConnections();
    deaf.close();
  }
});

test("bad input lists every problem in the caller's words, and nothing is written", async () => {
  const bad = {
    serviceSchema: "Not A Schema",
    serviceName: "",
    workflows: [{ name: "1x", activities: [] }],
    colour: "red",
  };
  const failure = await failureOf(api.client.deployWorkerForService(bad));
  expect(failure).toBeInstanceOf(InvalidServiceError);
  expect(failure).toMatchObject({
    message: expect.stringMatching(/^Cannot deploy service "Not A Schema": .*serviceName: /),
    problems: expect.arrayContaining([
      { path: "serviceSchema", message: expect.stringContaining("must match") },
      { path: "serviceName", message: expect.any(String) },
      { path: "workflows[0].name", message: expect.stringContaining("must match") },
      { path: "workflows[0].activities", message: expect.any(String) },
      { path: "", message: expect.stringContaining("colour") },
    ]),
  });
  expect(await servicesWritten()).toEqual([]);
});

test("options for an activity that no workflow has are bad input", async () => {
  const failure = await failureOf(
    api.client.deployWorkerForService({ ...service, options: { activities: { frist: { timeout_seconds: 5 } } } }),
  );
  expect(failure).toBeInstanceOf(InvalidServiceError);
  expect(failure).toMatchObject({
    problems: [{ path: "options.activities", message: `"frist" is no activity of this service's workflows` }],
  });
  expect(await servicesWritten()).toEqual([]);
});

test.each([undefined, null, 7, {}])("no service at all is bad input: %s", async (input) => {
  // Callers in JavaScript have no compiler that stops them.
  const call: unknown = Reflect.apply(api.client.deployWorkerForService, undefined, [input]);
  await expect(call).rejects.toThrow(InvalidServiceError);
});

test("a timeout that is no number is refused before anything is written", async () => {
  await expect(api.client.deployWorkerForService(service, { timeoutMs: Number.NaN })).rejects.toThrow(RangeError);
  expect(await servicesWritten()).toEqual([]);
});

test("an API that is not there is a TransportError that says so", async () => {
  const away = createOspClient({ url: `http://127.0.0.1:${await freePort()}`, secretKey: KEYS.SECRET_KEY });
  const failure = await failureOf(away.deployWorkerForService(service));
  expect(failure).toBeInstanceOf(TransportError);
  expect(failure).toMatchObject({ message: expect.stringMatching(/^Cannot deploy service "a": .*fetch failed/) });
});

test("a key that may not write is a TransportError, and nothing is written", async () => {
  const stranger = createOspClient({ url: api.url, secretKey: KEYS.PUBLISHABLE_KEY });
  await expect(stranger.deployWorkerForService(service)).rejects.toThrow(TransportError);
  expect(await servicesWritten()).toEqual([]);
});

test("queueWorkerBuild deploys an unchanged service again, as often as it is asked", async () => {
  await insertService(database, "a");
  const progress = react({ "2 requested": () => handler(ring()), "2 pending": () => settle(2, "deployed") });
  const { onProgress } = progress;
  expect(await api.client.queueWorkerBuild("a", { wait: true, onProgress })).toMatchObject({
    success: true,
    service_schema: "a",
    manifest_path: "manifests/a.json",
    deployment_id: (await registryOf(database, "a"))[0]?.id,
    revision: 2,
    deployment_status: "deployed",
  });
  await progress.finished();
  expect(await api.client.queueWorkerBuild("a")).toMatchObject({ revision: 3, deployment_status: "requested" });
});

test.each([
  ["unknown", "nobody", /^Cannot redeploy service "nobody": osp.services has no such row/],
  ["disabled", "resting", /^Cannot redeploy service "resting": it is disabled/],
  ["of no valid name", "No Name", /^Cannot redeploy a service: .*must match/],
])("queueWorkerBuild refuses a service that is %s", async (_title, schema, message) => {
  await insertService(database, "resting", { enabled: false });
  const failure = await failureOf(api.client.queueWorkerBuild(schema));
  expect(failure).toBeInstanceOf(InvalidServiceError);
  expect(failure).toMatchObject({ message: expect.stringMatching(message) });
});

test("a supabase-js client that is there already serves as well", async () => {
  const supabase = createClient(api.url, KEYS.SECRET_KEY);
  expect(await createOspClient({ supabase }).deployWorkerForService(service)).toMatchObject({ revision: 1 });
});
