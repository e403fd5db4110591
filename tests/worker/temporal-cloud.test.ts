import { afterAll, beforeAll, expect, onTestFinished, test } from "vitest";
import { createCertificates } from "../../local/railway/certificates.ts";
import { reply, startActivityServer } from "./support/activity-server.ts";
import { manifestOf } from "./support/manifests.ts";
import { type ServiceFixture, startServiceFixture, uniqueSchema } from "./support/service-fixture.ts";
import { type CloudSettings, startTemporalCloud } from "./support/temporal-cloud.ts";

// A real Temporal behind what Temporal Cloud has in front of it: TLS, and an API key or a client certificate.
let fixture: ServiceFixture;
beforeAll(async () => {
  fixture = await startServiceFixture();
}, 60_000);
afterAll(() => fixture.stop(), 60_000);

async function cloud(settings: Partial<CloudSettings>) {
  const { authority, certificate, key } = await createCertificates("localhost");
  const started = await startTemporalCloud({ target: fixture.address, tls: { cert: certificate, key }, ...settings });
  onTestFinished(() => started.close());
  return {
    clients: started.clients,
    environment: { TEMPORAL_ADDRESS: started.address, TEMPORAL_TLS_SERVER_CA_CERT_DATA: authority },
  };
}

/** A service whose one workflow returns "done", and a worker of it with these variables of Temporal's. */
async function start(environment: Record<string, string>) {
  const server = await startActivityServer((_, response) => reply(response, 200, "done"));
  onTestFinished(() => server.close());
  const schema = uniqueSchema();
  const manifest = manifestOf({ schema, workflows: { bill: ["charge"] }, options: { activity_endpoint: server.url } });
  return { schema, worker: fixture.worker(fixture.codeRoot({ "manifest.json": manifest }), environment) };
}

const run = (schema: string) =>
  fixture.client.workflow.execute("bill", { taskQueue: `${schema}-tasks`, workflowId: schema });

test("an API key opens it, and is in no log", async () => {
  const { environment } = await cloud({ apiKey: "key-of-a-test" });
  const { schema, worker } = await start({ ...environment, TEMPORAL_API_KEY: "key-of-a-test" });
  await worker.event("worker.ready");
  expect(await run(schema)).toBe("done");
  worker.child.kill("SIGTERM");
  expect(await worker.exit()).toMatchObject({ code: 0 });
  expect(JSON.stringify([worker.lines, worker.otherOutput])).not.toContain("key-of-a-test");
}, 60_000);

test("a wrong API key ends the worker with 78", async () => {
  const { environment } = await cloud({ apiKey: "key-of-a-test" });
  const { worker } = await start({ ...environment, TEMPORAL_API_KEY: "another" });
  expect(await worker.exit()).toMatchObject({
    code: 78,
    last: { problems: [expect.stringMatching(/refuses: .*unauthorized.*Correct the TEMPORAL_\* variables/is)] },
  });
});

test("a client certificate opens it", async () => {
  const client = await createCertificates("osp-worker", "clientAuth");
  const { environment, clients } = await cloud({ clientCa: client.authority });
  const { schema, worker } = await start({
    ...environment,
    TEMPORAL_TLS_CLIENT_CERT_DATA: client.certificate,
    TEMPORAL_TLS_CLIENT_KEY_DATA: client.key,
  });
  await worker.event("worker.ready");
  expect(await run(schema)).toBe("done");
  expect([...clients]).toEqual(["osp-worker"]);
}, 60_000);

test("without the client certificate it stays closed, and the worker says so", async () => {
  const client = await createCertificates("osp-worker", "clientAuth");
  const { environment } = await cloud({ clientCa: client.authority });
  const { worker } = await start({ ...environment, OSP_CONNECT_DEADLINE_SECONDS: "2" });
  expect(await worker.exit()).toMatchObject({
    code: 78,
    last: { problems: [expect.stringMatching(/CertificateRequired/)] },
  });
}, 60_000);
