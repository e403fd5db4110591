import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { manifestSchema } from "../../supabase/functions/_shared/manifest.ts";
import { type Model, rowOf, type ServiceRow } from "./model.ts";
import { fleetProblems, tableProblems } from "./rest.ts";
import { differences } from "./sessions.ts";
import { deadlocks, logProblems } from "./traces.ts";
import { type Snapshot, snapshotProblems } from "./watch.ts";
import { planProblems } from "./writing.ts";

// A storm proves what its judges would have complained of: here each of them meets what it is there for.

type Tables = Parameters<typeof tableProblems>[0];
type Machine = Parameters<typeof fleetProblems>[2];

const SERVICE = "storm_1";
const wanted = rowOf("A Service", { steps: 0, options: 0 });
const tableOf = (row: ServiceRow): Model => new Map([[SERVICE, row]]);
const model = tableOf(wanted);

const manifestOf = (row: ServiceRow) =>
  manifestSchema.parse({
    service_schema: SERVICE,
    service_name: row.service_name,
    revision: 2,
    activities_path: "./service/activities.ts",
    workflows: row.workflows.map((workflow) => ({
      ...workflow,
      task_queue: `${SERVICE}-tasks`,
      workflows_path: "./service/workflows.ts",
    })),
    options: { ...row.options, activity_endpoint: "http://127.0.0.1:1/{activity}" },
  });
const specOf = ({ service_name, workflows, options }: ServiceRow) => ({ service_name, workflows, options });
const manifest = manifestOf(wanted);
const fewerActivities = { ...wanted, workflows: [{ name: "doWork", activities: ["first"] }] };
const otherWorkflow = { ...wanted, workflows: wanted.workflows.map((workflow) => ({ ...workflow, name: "doOther" })) };
const otherOptions = { ...wanted, options: { activity_timeout_seconds: 31 } };
const unusable = { ...wanted, options: { colour: "red" } };
const deployed: Tables["deployments"][number] = {
  id: "4f0c8a52-0000-4000-8000-000000000002",
  service_schema: SERVICE,
  revision: 2,
  source: "update",
  deployment_status: "deployed",
  deployed_at: "2026-11-26T12:00:00Z",
  error_code: null,
  error_message: null,
  logs: "attempt 1: deployed",
  spec: specOf(wanted),
  manifest,
};
const replaced = {
  ...deployed,
  id: "4f0c8a52-0000-4000-8000-000000000001",
  revision: 1,
  deployment_status: "stopped",
  logs: "replaced by revision 2",
};
const failed = { ...deployed, deployment_status: "failed", error_code: "config", error_message: "no such option" };
const failedUnusable = { ...failed, spec: specOf(unusable), manifest: null };
const attempt: Tables["attempts"][number] = {
  service_schema: SERVICE,
  revision: 2,
  deployer: "host:1",
  outcome: "deployed",
  error_message: null,
};
const intent = { service_schema: SERVICE, revision: 2, enqueued_revision: 2, wanted: "run" };
const atRest: Tables = {
  deployments: [deployed, replaced],
  intents: [intent],
  attempts: [attempt],
  states: { [SERVICE]: "running" },
  orphans: [],
};
const worker = { pid: 100, service: SERVICE, revision: 2 };
const record: Machine["records"][number] = {
  instance: "one",
  service_schema: SERVICE,
  revision: 2,
  replica: 1,
  replicas: 1,
  deployment_id: deployed.id,
  state: "current",
  process: { pid: 100, started: "then" },
  environment_sha256: "",
  port: null,
  hasFiles: true,
};
const machine: Machine = { processes: new Map([[SERVICE, [worker]]]), records: [record] };
/** A row that wants two workers, and both of them. */
const twice = { ...wanted, options: { replicas: 2 } };
const second = { ...record, replica: 2, process: { pid: 101, started: "then" } };
const both: Machine = {
  processes: new Map([[SERVICE, [worker, { ...worker, pid: 101 }]]]),
  records: [record, second],
};
const nothing: Machine = { processes: new Map(), records: [] };

interface Case {
  model?: Model;
  tables?: Partial<Tables>;
  machine?: Machine;
}

const judge = (one: Case): string[] => {
  const tables = { ...atRest, ...one.tables };
  return [...tableProblems(tables), ...fleetProblems(one.model ?? model, tables, one.machine ?? machine)];
};

test("nothing is said of a fleet that equals its table", () => {
  expect(judge({})).toEqual([]);
  const gone: Model = new Map();
  const stopped = { ...deployed, deployment_status: "stopped", logs: "stopped by revision 3" };
  expect(judge({ model: gone, tables: { deployments: [stopped, replaced], states: {} }, machine: nothing })).toEqual(
    [],
  );
  const lost = { ...replaced, logs: "its worker is gone from platform local: a new revision is requested" };
  expect(judge({ tables: { deployments: [deployed, lost] } })).toEqual([]);
  expect(differences(model, model)).toEqual([]);
  const deployedTwice = { ...deployed, spec: specOf(twice), manifest: manifestOf(twice) };
  expect(judge({ model: tableOf(twice), tables: { deployments: [deployedTwice, replaced] }, machine: both })).toEqual(
    [],
  );
});

test("a worker that the registry has forgotten, of a row that fails, is to be reported", () => {
  const given = { model: tableOf(unusable) };
  const states = { [SERVICE]: "failed" };
  const reported = { deployments: [failedUnusable], states, orphans: [SERVICE] };
  expect(judge({ ...given, tables: reported })).toEqual([]);
  const erased = { processes: new Map(), records: [{ ...record, hasFiles: false }] };
  expect(judge({ ...given, tables: reported, machine: erased })).toEqual([]);
  // It could be started.
  expect(judge({ ...given, tables: reported, machine: { ...machine, processes: new Map() } })).toEqual([
    expect.stringContaining("there is a record of revision 2"),
  ]);
  expect(judge({ ...given, tables: reported, machine: { ...machine, records: [] } })).toEqual([
    expect.stringContaining("nothing is deployed, and it has worker 100"),
  ]);
  expect(judge({ ...given, tables: { deployments: [failedUnusable], states } })).toEqual([
    expect.stringContaining("nothing is deployed, and it has worker 100"),
    expect.stringContaining("there is a record of revision 2"),
  ]);
});

test.each<[string, Case, RegExp]>([
  [
    "an intent that nobody enqueued",
    { tables: { intents: [{ ...intent, enqueued_revision: 1 }] } },
    /2 is not enqueued/,
  ],
  [
    "a deployment that goes on",
    { tables: { deployments: [{ ...deployed, deployment_status: "deploying" }, replaced] } },
    /still deploying/,
  ],
  [
    "a failure without its reason",
    { tables: { deployments: [deployed, { ...failed, revision: 1, error_message: null }] } },
    /failed without a reason/,
  ],
  [
    "a stop without its reason",
    { tables: { deployments: [deployed, { ...replaced, logs: "claimed by host:1" }] } },
    /stopped without a reason/,
  ],
  [
    "a row that was rolled back",
    {
      tables: {
        deployments: [deployed, { ...replaced, spec: specOf({ ...wanted, service_name: "Never to be seen" }) }],
      },
    },
    /rolled back/,
  ],
  ["an attempt without an end", { tables: { attempts: [{ ...attempt, outcome: null }] } }, /never ended/],
  [
    "an abandoned attempt of nobody",
    { tables: { attempts: [{ ...attempt, outcome: "abandoned", error_message: "went away" }] } },
    /abandoned by nobody knows whom/,
  ],
  ["a wanted service without a deployment", { tables: { deployments: [] } }, /is wanted, and its newest revision is/],
  ["a deployment of an older row", { model: tableOf({ ...wanted, service_name: "Changed" }) }, /not what the row says/],
  ...[fewerActivities, otherWorkflow, otherOptions].flatMap((row): [string, Case, RegExp][] => {
    const told = JSON.stringify([row.workflows, row.options]);
    return [
      [`a deployment of another row: ${told}`, { model: tableOf(row) }, /revision 2 is not what the row says/],
      [
        `a manifest of another row: ${told}`,
        { tables: { deployments: [{ ...deployed, manifest: manifestOf(row) }, replaced] } },
        /the manifest of revision 2 says/,
      ],
    ];
  }),
  [
    "a manifest of another revision",
    { tables: { deployments: [{ ...deployed, manifest: { ...manifest, revision: 1 } }, replaced] } },
    /the manifest of revision 2 says/,
  ],
  [
    "a deployment without a manifest",
    { tables: { deployments: [{ ...deployed, manifest: null }, replaced] } },
    /without a manifest/,
  ],
  [
    "a failure of another row than what must fail",
    { model: tableOf(unusable), tables: { deployments: [failed, replaced] } },
    /not what the row says/,
  ],
  ["a wanted service that failed", { tables: { deployments: [failed, replaced] } }, /revision 2 is failed/],
  [
    "a service that must fail and did not",
    { model: tableOf(unusable), tables: { deployments: [{ ...deployed, spec: specOf(unusable) }, replaced] } },
    /must fail, and is deployed/,
  ],
  [
    "an older worker that was stopped for a newer one that failed",
    {
      model: tableOf(unusable),
      tables: { deployments: [failedUnusable, replaced] },
      machine: nothing,
    },
    /1 was stopped, though the newer one failed/,
  ],
  [
    "a state of a wanted service that is not that it runs",
    { tables: { states: { [SERVICE]: "stopped" } } },
    /worker_status says stopped of it instead of running/,
  ],
  ["a wanted service without a state", { tables: { states: {} } }, /worker_status says nothing of it/],
  [
    "a service that must fail and is said to run",
    { model: tableOf(unusable), tables: { deployments: [failedUnusable] } },
    /worker_status says running of it instead of failed/,
  ],
  ["a state of a service that is not wanted", { model: new Map() }, /says running of it, which is not wanted/],
  ["a deleted service that is deployed", { model: new Map() }, /is not wanted, and revision 2 is deployed/],
  ["a disabled service that is deployed", { model: tableOf({ ...wanted, enabled: false }) }, /is not wanted/],
  ["a deployed service without a worker", { machine: nothing }, /it has worker none/],
  [
    "two workers of differing revisions",
    { machine: { ...machine, processes: new Map([[SERVICE, [worker, { ...worker, pid: 99, revision: 1 }]]]) } },
    /100 \(revision 2\) and 99 \(revision 1\)/,
  ],
  [
    "two workers of the same revision",
    { machine: { ...machine, processes: new Map([[SERVICE, [worker, { ...worker, pid: 99 }]]]) } },
    /100 \(revision 2\) and 99 \(revision 2\)/,
  ],
  [
    "fewer workers than the row wants",
    {
      model: tableOf(twice),
      tables: { deployments: [{ ...deployed, spec: specOf(twice), manifest: manifestOf(twice) }, replaced] },
    },
    /to have 2 workers, and it has worker 100 \(revision 2\); on record: revision 2 current 100/,
  ],
  [
    "a second worker of another revision",
    {
      model: tableOf(twice),
      tables: { deployments: [{ ...deployed, spec: specOf(twice), manifest: manifestOf(twice) }, replaced] },
      machine: { ...both, processes: new Map([[SERVICE, [worker, { ...worker, pid: 101, revision: 1 }]]]) },
    },
    /100 \(revision 2\) and 101 \(revision 1\)/,
  ],
  [
    "the same worker on record twice",
    {
      model: tableOf(twice),
      tables: { deployments: [{ ...deployed, spec: specOf(twice), manifest: manifestOf(twice) }, replaced] },
      machine: { ...both, records: [record, { ...second, replica: 1 }] },
    },
    /revision 2 current 100 \(replica 1\), revision 2 current 101 \(replica 1\)/,
  ],
  [
    "a worker of a service that nobody knows",
    {
      machine: { ...machine, processes: new Map([...machine.processes, ["stray", [{ ...worker, service: "stray" }]]]) },
    },
    /stray: nothing is deployed, and it has worker 100/,
  ],
  [
    "a record that nobody needs",
    { machine: { ...machine, records: [record, { ...record, revision: 1, state: "draining" }] } },
    /revision 1 draining/,
  ],
])("told: %s", (_, one, complaint) => {
  expect(judge(one).join("\n")).toMatch(complaint);
});

test("told: a table that holds another row than what was committed", () => {
  expect(differences(model, tableOf({ ...wanted, service_name: "Other" }))).toEqual([
    expect.stringContaining("instead of"),
  ]);
  expect(differences(model, new Map())).toEqual([expect.stringContaining("no row")]);
  const [one, other] = [{ activity_timeout_seconds: 30, colour: "blue" }, {
    colour: "blue",
    activity_timeout_seconds: 30,
  }];
  expect(differences(tableOf({ ...wanted, options: one }), tableOf({ ...wanted, options: other }))).toEqual([]);
});

test("a statement of one session is refused as it should be, and by nothing else, a deadlock included", () => {
  const steps = [{ text: "truncate osp.services", values: [] }];
  const deadlock = { fate: "refused", code: "40P01", message: "deadlock detected" } as const;
  expect(planProblems({ steps }, { fate: "committed" })).toEqual([]);
  expect(planProblems({ steps, refusal: "P0002" }, { fate: "refused", code: "P0002" })).toEqual([]);
  expect(planProblems({ steps }, { fate: "lost" })).toEqual([]);
  expect(planProblems({ steps, refusal: "P0002" }, { fate: "committed" })).toEqual([
    expect.stringContaining("Was not refused"),
  ]);
  expect(planProblems({ steps }, deadlock)).toEqual([expect.stringContaining("40P01 deadlock detected")]);
  expect(planProblems({ steps, refusal: "P0002" }, deadlock)).toHaveLength(1);
});

test("a log that tells of what nobody thought of", () => {
  const directory = mkdtempSync(join(tmpdir(), "osp-judges-"));
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }));
  const workersDirectory = join(directory, "workers");
  mkdirSync(join(workersDirectory, "one"), { recursive: true });
  writeFileSync(
    join(directory, "deployer-1.log"),
    '{"level":30,"event":"sweep"}\n{"level":50,"error":"deadlock detected"}\n',
  );
  writeFileSync(join(workersDirectory, "one", "worker.log"), "serving\nReferenceError: x is not defined\n");
  expect(logProblems({ directory, workersDirectory })).toEqual([
    'deployer-1.log says: {"level":50,"error":"deadlock detected"}',
    "workers/one/worker.log says: ReferenceError: x is not defined",
  ]);
});

test("Postgres' own log tells of a deadlock, whoever was its victim", () => {
  const directory = mkdtempSync(join(tmpdir(), "osp-judges-"));
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }));
  const log = join(directory, "postgres.log");
  const tell = (one: string, other: string) =>
    writeFileSync(
      log,
      "12:00 UTC [7] LOG:  checkpoint starting: time\n12:01 UTC [8] ERROR:  deadlock detected\n" +
        `12:01 UTC [8] DETAIL:  Process 8 waits for ShareLock\n\tProcess 8: ${one}\n\tProcess 9: ${other}\n` +
        "12:01 UTC [8] STATEMENT:  delete from osp.services\n12:02 UTC [7] LOG:  checkpoint complete\n",
    );
  tell("/* crosswise */ update osp.services", "/* crosswise */ update osp.services");
  expect(deadlocks(log)).toEqual([]);
  tell("/* crosswise */ update osp.services", "update osp.services");
  expect(deadlocks(log)).toEqual([
    expect.stringMatching(
      /^Postgres says: .*deadlock detected[^]*Process 9: update[^]*STATEMENT:  delete from osp.services$/,
    ),
  ]);
  writeFileSync(log, "12:00 UTC [7] LOG:  checkpoint starting: time\n");
  expect(deadlocks(log)).toEqual([]);
});

describe("of two looks", () => {
  const row = { id: "a", service_schema: SERVICE, revision: 1, deployment_status: "pending" } as const;
  const before: Snapshot = { deployments: [row], intents: { [SERVICE]: 1 }, open_attempts: [] };

  test("nothing is said where a deployment went on", () => {
    const now = { ...before, deployments: [{ ...row, deployment_status: "deploying" as const }], open_attempts: ["a"] };
    expect(snapshotProblems(now, before)).toEqual([]);
  });

  test.each<[string, Snapshot, Snapshot, RegExp]>([
    [
      "two deployed rows",
      { ...before, deployments: ["a", "b"].map((id) => ({ ...row, id, deployment_status: "deployed" as const })) },
      { ...before, deployments: [] },
      /two deployed rows/,
    ],
    ["two attempts at once", { ...before, open_attempts: ["a", "a"] }, before, /two attempts at the same time/],
    ["a row that is gone", { ...before, deployments: [] }, before, /its row is gone/],
    ["a number used twice", { ...before, deployments: [{ ...row, id: "b" }] }, before, /its number was used again/],
    ["a revision that goes back", { ...before, intents: {} }, before, /its newest revision was 1 and is gone/],
    [
      "a row that reopens",
      before,
      { ...before, deployments: [{ ...row, deployment_status: "stopped" }] },
      /was stopped and is pending/,
    ],
  ])("told: %s", (_, now, then, complaint) => {
    expect(snapshotProblems(now, then).join("\n")).toMatch(complaint);
  });
});
