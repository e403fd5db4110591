import { expect, test } from "vitest";
import { useDatabase } from "../support/database.ts";

const database = useDatabase();

interface Case {
  state: string;
  wanted: "run" | "stop";
  /** Revision 2 is the newest requested; which of them has a row of the registry already. */
  enqueued: 1 | 2;
  /** Statuses of the registry's rows by revision; left out: there is none. */
  rows: { 1?: string; 2?: string; 3?: string };
  error?: string;
}

const cases: Case[] = [
  { state: "waiting", wanted: "run", enqueued: 1, rows: {} },
  { state: "waiting", wanted: "run", enqueued: 1, rows: { 1: "deployed" } },
  { state: "waiting", wanted: "run", enqueued: 1, rows: { 1: "deploying" } },
  { state: "waiting", wanted: "run", enqueued: 1, rows: { 1: "failed" }, error: "broken" },
  { state: "waiting", wanted: "stop", enqueued: 1, rows: { 1: "deployed" } },
  { state: "starting", wanted: "run", enqueued: 2, rows: { 2: "pending" } },
  { state: "starting", wanted: "run", enqueued: 2, rows: { 1: "stopped", 2: "deploying" } },
  { state: "starting", wanted: "run", enqueued: 2, rows: { 1: "deploying", 2: "pending" } },
  { state: "updating", wanted: "run", enqueued: 2, rows: { 1: "deployed", 2: "pending" } },
  { state: "updating", wanted: "run", enqueued: 2, rows: { 1: "deployed", 2: "deploying" } },
  { state: "running", wanted: "run", enqueued: 2, rows: { 1: "stopped", 2: "deployed" } },
  { state: "failed", wanted: "run", enqueued: 2, rows: { 1: "stopped", 2: "failed" }, error: "broken" },
  { state: "failed", wanted: "run", enqueued: 2, rows: { 1: "deployed", 2: "failed" }, error: "broken" },
  { state: "failed", wanted: "run", enqueued: 2, rows: {}, error: "registry_row_missing" },
  { state: "failed", wanted: "run", enqueued: 2, rows: { 1: "stopped" }, error: "registry_row_missing" },
  { state: "failed", wanted: "run", enqueued: 2, rows: { 1: "deployed" }, error: "registry_row_missing" },
  { state: "failed", wanted: "run", enqueued: 2, rows: { 1: "deploying" }, error: "registry_row_missing" },
  { state: "failed", wanted: "run", enqueued: 2, rows: { 1: "deploying", 2: "failed" }, error: "broken" },
  { state: "stopped", wanted: "run", enqueued: 2, rows: { 2: "stopped" } },
  // The intents are from an older backup than the registry.
  { state: "running", wanted: "run", enqueued: 2, rows: { 3: "deployed" } },
  { state: "running", wanted: "run", enqueued: 2, rows: { 2: "stopped", 3: "deployed" } },
  { state: "running", wanted: "run", enqueued: 2, rows: { 2: "failed", 3: "deployed" }, error: "broken" },
  { state: "updating", wanted: "run", enqueued: 2, rows: { 2: "pending", 3: "deployed" } },
  { state: "stopping", wanted: "stop", enqueued: 2, rows: { 2: "stopped", 3: "deployed" } },
  { state: "stopped", wanted: "run", enqueued: 2, rows: { 1: "deployed", 2: "stopped" } },
  { state: "stopping", wanted: "stop", enqueued: 2, rows: { 1: "deployed", 2: "pending" } },
  { state: "stopping", wanted: "stop", enqueued: 2, rows: { 1: "deployed", 2: "deploying" } },
  { state: "stopping", wanted: "stop", enqueued: 2, rows: { 1: "failed", 2: "pending" } },
  { state: "stopping", wanted: "stop", enqueued: 2, rows: { 1: "deployed", 2: "stopped" } },
  { state: "stopping", wanted: "stop", enqueued: 2, rows: { 1: "deployed" }, error: "registry_row_missing" },
  { state: "stopping", wanted: "stop", enqueued: 2, rows: { 1: "deploying" }, error: "registry_row_missing" },
  { state: "failed", wanted: "stop", enqueued: 2, rows: { 1: "deployed", 2: "failed" }, error: "broken" },
  { state: "stopped", wanted: "stop", enqueued: 2, rows: { 1: "stopped" } },
  { state: "stopped", wanted: "stop", enqueued: 2, rows: { 1: "stopped", 2: "failed" }, error: "broken" },
  { state: "stopped", wanted: "stop", enqueued: 2, rows: { 1: "stopped", 2: "stopped" } },
  { state: "stopped", wanted: "stop", enqueued: 2, rows: {} },
];

test.each(cases)("$state: wants to $wanted, enqueued $enqueued of 2, rows $rows", async ({ state, ...given }) => {
  await database.rows(`truncate osp_metadata.service_intents, osp_metadata.worker_registry cascade`);
  await database.rows(
    `insert into osp_metadata.service_intents (service_schema, revision, wanted, source, requested_by, enqueued_revision)
    values ('s', 2, $1, 'update', 'osp_writer', $2), ('another', 1, 'run', 'insert', 'osp_writer', 0)`,
    [given.wanted, given.enqueued],
  );
  for (const [revision, status] of Object.entries(given.rows)) {
    await database.rows(
      `insert into osp_metadata.worker_registry
        (service_schema, manifest_path, revision, source, deployment_status, deployed_at, lease_token, error_code)
      values ('s', 'manifests/s.json', $1, 'update', $2, now(), case when $2 = 'deploying' then gen_random_uuid() end,
        case when $2 = 'failed' then 'broken' end)`,
      [revision, status],
    );
  }
  const running = Object.entries(given.rows).find(([, status]) => status === "deployed")?.[0];
  const shown = await database.rows(`select * from osp_metadata.worker_status where service_schema = 's'`);
  expect(shown).toMatchObject([{
    state,
    wanted: given.wanted,
    wanted_revision: 2,
    running_revision: running === undefined ? null : Number(running),
    deployment_status: given.rows[given.enqueued] ?? null,
    last_error_code: given.error ?? null,
  }]);
  // By its state it is found as well, and under no other.
  expect(
    await database.rows(
      `select service_schema from osp_metadata.worker_status where state = $1 and wanted_revision = 2`,
      [
        state,
      ],
    ),
  ).toEqual([{ service_schema: "s" }]);
  expect(await database.rows(`select service_schema from osp_metadata.worker_status order by 1`)).toHaveLength(2);
});
