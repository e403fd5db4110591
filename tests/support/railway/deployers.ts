import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { FakeRailway } from "../../../local/railway/fake-railway.ts";
import type { TestDatabase } from "../database.ts";
import { createMachine, type TestDeployer } from "../deployer.ts";
import { createTestHandler, ring } from "../edge-function.ts";
import { eventually, insertService, registryOf, type RegistryRow } from "../services.ts";

/** Real deployers on platform `railway`, with the CLI given and a stand-in of Railway behind it. */
export function createRailwayMachine(
  database: Pick<TestDatabase, "deployerUrl" | "rows">,
  cli: string,
  fake: FakeRailway,
) {
  const machine = createMachine(database, () => "127.0.0.1:9");
  const handler = createTestHandler(database);
  const temporary = join(machine.stateDirectory, "tmp");
  mkdirSync(temporary);
  const settings = {
    OSP_PLATFORM: "railway",
    OSP_READINESS: "platform",
    TMPDIR: temporary,
    OSP_RAILWAY_REQUESTS_PER_SECOND: "1000",
    RAILWAY_CLI_PATH: cli,
    RAILWAY_API_TOKEN: fake.tokens.workspace,
    OSP_RAILWAY_PROJECT: fake.project.id,
    OSP_RAILWAY_ENVIRONMENT: fake.production.id,
    OSP_RAILWAY_POLL_SECONDS: "0.1",
    OSP_RAILWAY_POLL_CAP_SECONDS: "0.2",
    OSP_RAILWAY_SETTLE_SECONDS: "0.1",
    OSP_RAILWAY_PROBE_SECONDS: "0.3",
    OSP_RAILWAY_CALL_TIMEOUT_SECONDS: "20",
    OSP_RAILWAY_REQUESTS_PER_HOUR: "100000",
    ...fake.environment,
  };
  const ringBell = async () => void await handler(ring());
  const started: TestDeployer[] = [];
  return {
    ...machine,
    /** Ends those that run, by SIGKILL. */
    stopAll: async () => void await Promise.all(started.splice(0).map((deployer) => deployer.kill())),
    /** Where its temporary files go. */
    temporary,
    ringBell,
    start(environment: Record<string, string> = {}, through: string[] = []): TestDeployer {
      const deployer = machine.start({ ...settings, ...environment }, through);
      started.push(deployer);
      return deployer;
    },
    async insert(schema: string, values: Parameters<typeof insertService>[2] = {}): Promise<void> {
      await insertService(database, schema, values);
      await ringBell();
    },
    /** The service's newest registry row, once it satisfies. */
    row: (schema: string, satisfies: (row: RegistryRow) => boolean, timeoutMs?: number): Promise<RegistryRow> =>
      eventually(
        async () => (await registryOf(database, schema)).at(-1),
        (row) => row !== undefined && satisfies(row),
        timeoutMs,
      ).then((row) => row ?? Promise.reject(new Error("no row"))),
    async deployed(schema: string, revision = 1): Promise<RegistryRow> {
      return expectStatus(await this.row(schema, (row) => row.revision === revision && hasEnded(row)), "deployed");
    },
    async failed(schema: string): Promise<RegistryRow> {
      return expectStatus(await this.row(schema, hasEnded), "failed");
    },
    attempts: (schema: string) =>
      database.rows<{ outcome: string | null; error_code: string | null; attempt: number; log_tail: string | null }>(
        `select outcome, error_code, attempt, log_tail from osp_metadata.deployment_attempts where service_schema = $1 order by id`,
        [schema],
      ),
  };
}
function hasEnded({ deployment_status }: RegistryRow): boolean {
  return !["pending", "deploying"].includes(deployment_status);
}

function expectStatus(row: RegistryRow, status: string): RegistryRow {
  if (row.deployment_status === status) return row;
  throw new Error(`${row.service_schema} is ${row.deployment_status} and not ${status}:\n${row.logs}`);
}

export type RailwayMachine = ReturnType<typeof createRailwayMachine>;

/** What one service is like on the stand-in. */
export function onRailway(fake: FakeRailway, name: string) {
  const services = [...fake.world.services.values()].filter((service) => service.name === name);
  const deployments = services.flatMap(({ id }) => fake.operator.instance(id).deployments);
  const ended = ["FAILED", "CRASHED", "SKIPPED", "REMOVING", "REMOVED"];
  return {
    services,
    deployments,
    running: deployments.filter(({ status }) => status === "SUCCESS"),
    pending: deployments.filter(({ status }) => status !== "SUCCESS" && !ended.includes(status)),
  };
}

/**
 * A CLI that does something else first, written in sh, where `$count` is the number of the call, `$PPID` the deployer and
 * `$cli` the real one.
 */
export function wrapCli(cli: string, script: string) {
  const directory = mkdtempSync(join(tmpdir(), "osp-test-cli-"));
  const path = join(directory, "railway");
  const counter = join(directory, "count");
  writeFileSync(
    path,
    `#!/bin/sh
cli='${cli}'
printf x >> '${counter}'
count=$(wc -c < '${counter}')
${script}
exec "$cli" "$@"
`,
  );
  chmodSync(path, 0o755);
  return {
    path,
    directory,
    count: () => (existsSync(counter) ? readFileSync(counter).length : 0),
    remove: () => rmSync(directory, { recursive: true, force: true }),
  };
}
