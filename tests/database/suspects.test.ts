import type { Client } from "pg";
import { beforeEach, expect, onTestFinished, test } from "vitest";
import { createRegistry } from "../../deployer/registry.ts";
import { useDatabase } from "../support/database.ts";
import { createTestHandler, ring } from "../support/edge-function.ts";
import { clearServices } from "../support/services.ts";

const database = useDatabase();
const handler = createTestHandler(database);
const SUSPECTS = 40;
beforeEach(() => clearServices(database));

/** Deployments that two deployers died with each; the first is the youngest. */
async function leaveSuspects(): Promise<void> {
  await database.rows(
    `insert into osp.services (service_schema, service_name, workflows)
     select 's' || g, 'S', '[{"name": "w", "activities": ["x"]}]' from generate_series(1, $1::integer) as g`,
    [SUSPECTS],
  );
  await handler(ring());
  await database.rows(
    `update osp_metadata.worker_registry
     set
       created_at = now() - make_interval(mins => substr(service_schema, 2)::integer), started_at = now(), deployment_status = 'deploying',
       platform = 'local', lease_owner = 'gone', lease_token = gen_random_uuid(), lease_expires_at = now() - interval '1 second'`,
  );
  await database.rows(
    `insert into osp_metadata.deployment_attempts (deployment_id, service_schema, revision, attempt, deployer, outcome, ended_at)
     select r.id, r.service_schema, r.revision, 1, death.deployer, death.outcome, case when death.outcome is not null then now() end
     from osp_metadata.worker_registry as r, (values ('first', 'abandoned'), ('second', null)) as death (deployer, outcome)`,
  );
}

const claim = async (client: Client, takesSuspect = true) => {
  const deployer = createRegistry(client, { owner: "a", platform: "local", leaseSeconds: 10, renewTimeoutMs: 5000 });
  return (await deployer.claim(5, takesSuspect)).map(({ service_schema }) => service_schema);
};

test.each(["for update", "for key share"])(
  "a suspect that somebody has locked %s does not keep the next from being taken",
  async (lock) => {
    await leaveSuspects();
    const [person, client] = [await database.connect(), await database.connect()];
    onTestFinished(async () => void await Promise.all([person.end(), client.end()]));
    await person.query(
      `begin; select from osp_metadata.worker_registry where service_schema = 's${SUSPECTS}' ${lock}`,
    );
    expect(await claim(client)).toEqual([`s${SUSPECTS - 1}`]);
    await person.query("rollback");
    expect(await claim(client)).toEqual([`s${SUSPECTS}`]);
  },
);

test.each([
  { takesSuspect: true, taken: [`s${SUSPECTS}`], looks: [{ funcname: "oldest_suspect", calls: "1" }] },
  { takesSuspect: false, taken: [], looks: [] },
])("many suspects are looked at once each by a claim, of which $taken is taken", async (expected) => {
  const { takesSuspect, taken, looks } = expected;
  await leaveSuspects();
  const client = await database.connect();
  onTestFinished(() => client.end());
  await client.query(`begin; set local track_functions = 'all'`);
  expect(await claim(client, takesSuspect)).toEqual(taken);
  const { rows } = await client.query(
    `select funcname, calls from pg_stat_xact_user_functions where funcname in ('count_left_attempts', 'oldest_suspect') order by 1`,
  );
  expect(rows).toEqual([{ funcname: "count_left_attempts", calls: String(SUSPECTS) }, ...looks]);
});
