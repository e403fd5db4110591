import { randomBytes } from "node:crypto";
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import pg from "pg";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { findWorkers } from "../../deployer/platforms/local/strays.ts";
import { workersDirectory } from "../../deployer/platforms/local/worker-record.ts";
import { takeState } from "../../local/stack-state.ts";
import { refusal } from "../support/database.ts";
import { eventually } from "../support/services.ts";
import { createStackDirectory } from "../support/stack.ts";

// A running stack, by the real programs: what each process, file, row and line of a log holds of what is secret.
const stack = createStackDirectory();
const random = () => randomBytes(18).toString("base64url");
const keys = {
  PUBLISHABLE_KEY: `sb_publishable_${random()}`,
  SECRET_KEY: `sb_secret_${random()}`,
  OSP_WEBHOOK_SECRET: random(),
  DEPLOYER_PASSWORD: random(),
  OSP_ACTIVITY_SECRET: random(),
};
const DATABASE_PASSWORD = "postgres:postgres@"; // as a URL holds it: the word alone is everywhere
const secrets = {
  "the secret key": keys.SECRET_KEY,
  "the doorbell's secret": keys.OSP_WEBHOOK_SECRET,
  "the deployer's password": keys.DEPLOYER_PASSWORD,
  "the activities' secret": keys.OSP_ACTIVITY_SECRET,
  "the database's password": DATABASE_PASSWORD,
};
/** What the person's shell holds besides; nothing of it is for the stack. */
const ofTheShell = `of-the-shell-${random()}`;
const shell = Object.fromEntries(
  [
    ...[
      "SUPABASE_ACCESS_TOKEN",
      "SUPABASE_SECRET_KEYS",
      "SUPABASE_SERVICE_ROLE_KEY",
      "RAILWAY_TOKEN",
      "RAILWAY_API_TOKEN",
    ],
    ...["DATABASE_URL", "PGPASSWORD", "AWS_SECRET_ACCESS_KEY", "GITHUB_TOKEN", "NPM_TOKEN", "OSP_RAILWAY_VARIABLES"],
  ].map((name) => [name, ofTheShell]),
);

let started: ReturnType<typeof stack.start>;
const commandLines = new Set<string>();
let isWatching = true;

beforeAll(async () => {
  writeFileSync(join(stack.directory, "keys.json"), JSON.stringify(keys), { mode: 0o600 });
  const watching = watchCommandLines();
  started = stack.start(shell);
  try {
    await started.running();
  } finally {
    isWatching = false;
    await watching;
  }
}, 180_000);
afterAll(async () => {
  await started.end("SIGINT");
  await stack.clear();
}, 120_000);

/** Looks at every process of the machine again and again while the stack comes up. */
async function watchCommandLines(): Promise<void> {
  while (isWatching) {
    for (const pid of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
      const line = readProcess(pid, "cmdline");
      if (line !== "") commandLines.add(line.replaceAll("\0", " "));
    }
    await pause(15);
  }
}

function readProcess(pid: number | string, file: "cmdline" | "environ"): string {
  try {
    return readFileSync(`/proc/${pid}/${file}`, "utf8");
  } catch {
    return ""; // ended meanwhile
  }
}

const heldIn = (text: string) =>
  Object.entries(secrets).filter(([, secret]) => text.includes(secret)).map(([name]) => name);

test("no command line held a secret, not for a moment", () => {
  expect([...commandLines].some((line) => line.includes("deployer/main.ts"))).toBe(true); // it has looked
  const { port } = new URL(stack.addresses()["DB_URL"] ?? "");
  // Other tests of this machine have databases of their own.
  const ours = [...commandLines].filter((line) => !line.includes(DATABASE_PASSWORD) || line.includes(`:${port}/`));
  expect(ours.filter((line) => heldIn(line).length > 0 || line.includes(ofTheShell))).toEqual([]);
});

describe("each process has the variables that it needs, and the secrets of its own", () => {
  const always = ["PATH", "HOME", "LANG"];
  const inherited = [...always, "TZ", "TMPDIR", "NODE_EXTRA_CA_CERTS", "OSP_CACHE_DIR"];
  const ofNode = ["NODE_OPTIONS", "NODE_COMPILE_CACHE"];
  const activities = ["OSP_ACTIVITY_SECRET", "OSP_ACTIVITY_NETWORKS", "OSP_ACTIVITY_PLAIN_HTTP"];
  const cases = {
    postgres: { variables: always, holds: [] },
    temporal: { variables: [...inherited, ...ofNode], holds: [] },
    activities: {
      variables: [...inherited, ...ofNode, "OSP_ACTIVITY_PORT", "OSP_ACTIVITY_SECRET"],
      holds: ["the activities' secret"],
    },
    doorbell: { variables: [...inherited, ...ofNode, "DB_URL"], holds: ["the database's password"] },
    api: {
      variables: [
        ...[...inherited, ...ofNode, "DB_URL", "OSP_API_PORT", "OSP_STATE_DIR", "SECRET_KEY", "PUBLISHABLE_KEY"],
        "FUNCTIONS_INTERNAL_URL",
      ],
      holds: ["the secret key", "the database's password"],
    },
    functions: {
      variables: [
        ...[...inherited, "OSP_FUNCTIONS_PORT", "SUPABASE_URL", "SUPABASE_SECRET_KEYS", "OSP_WEBHOOK_SECRET"],
        "OSP_DEFAULT_ACTIVITY_ENDPOINT",
      ],
      holds: ["the secret key", "the doorbell's secret"],
    },
    deployer: {
      variables: [
        ...[...inherited, ...ofNode, "DATABASE_URL", "OSP_PLATFORM", "OSP_STATE_DIR", "FUNCTIONS_URL"],
        ...[
          "OSP_WEBHOOK_SECRET",
          "TEMPORAL_ADDRESS",
          "OSP_DRAIN_SECONDS",
          "SUPABASE_URL",
          "SUPABASE_SECRET_KEY",
          "OSP_RECONCILE_SECONDS",
          ...activities,
        ],
      ],
      holds: ["the secret key", "the doorbell's secret", "the deployer's password", "the activities' secret"],
    },
    worker: {
      variables: [...ofNode, ...[
        ...always,
        "TZ",
        "NODE_EXTRA_CA_CERTS",
        "OSP_CACHE_DIR",
        "TEMPORAL_ADDRESS",
        "OSP_DRAIN_SECONDS",
      ], ...["MANIFEST_PATH", "OSP_INSTANCE", "OSP_WORKER_PROGRAM", "PORT", ...activities]],
      holds: ["the activities' secret"],
    },
  };
  const pidsOf = (program: string) =>
    program === "worker"
      ? findWorkers(workersDirectory(stack.directory)).map(({ pid }) => pid)
      : [stack.processes()[program]?.pid].flatMap((pid) => pid ?? []);

  test("every process of the stack stands in the table of cases", () => {
    expect([...Object.keys(stack.processes()), "worker"].sort()).toEqual(Object.keys(cases).sort());
  });

  test.each(Object.entries(cases))("%s", (program, { variables, holds }) => {
    const pids = pidsOf(program);
    expect(pids.length).toBeGreaterThan(0);
    for (const pid of pids) {
      const environment = readProcess(pid, "environ");
      const names = environment.split("\0").filter(Boolean).map((line) => line.slice(0, line.indexOf("=")));
      expect(names.filter((name) => !variables.includes(name))).toEqual([]);
      expect(heldIn(environment)).toEqual(holds);
      expect(environment).not.toContain(ofTheShell);
    }
  });
});

/** Every file below, but for the database's own, which hold the Vault. */
function filesBelow(directory: string): string[] {
  return readdirSync(directory, { withFileTypes: true }).flatMap((entry) => {
    const path = join(directory, entry.name);
    if (entry.isDirectory()) return path.endsWith("postgres/data") ? [] : filesBelow(path);
    return entry.isFile() ? [path] : [];
  });
}

const mode = (path: string) => (statSync(path).mode & 0o777).toString(8);

test("the state directory is closed, and so are the files in it that hold secrets", async () => {
  expect(mode(stack.directory)).toBe("700");
  expect(mode(workersDirectory(stack.directory))).toBe("700");
  const holding = filesBelow(stack.directory).filter((path) => heldIn(readFileSync(path, "latin1")).length > 0);
  expect(holding.map((path) => path.slice(stack.directory.length + 1)).sort()).toEqual(["keys.json", "stack.env"]);
  expect(holding.map(mode)).toEqual(["600", "600"]);
  const [{ place } = { place: "" }] = await stack.query<{ place: string }>(
    `select current_setting('data_directory') as place`,
  );
  expect(mode(place)).toBe("700");
});

test("a state directory that a start makes is closed", async () => {
  const directory = join(stack.directory, "of", "another");
  await takeState(directory);
  expect(mode(directory)).toBe("700");
});

test("no row holds a secret but the Vault's, and the doorbell's in pg_net's queue; nor does what SQL shows of itself", async () => {
  await stack.query(`update osp.services set service_name = service_name || '!'`);
  await eventually(
    () => stack.query(`select from osp_metadata.service_intents where revision > enqueued_revision`),
    (waiting) => waiting.length === 0,
  );
  const tables = await stack.query<{ name: string }>(`
    select format('%I.%I', n.nspname, c.relname) as name
    from pg_class as c inner join pg_namespace as n on n.oid = c.relnamespace
    where c.relkind in ('r', 'p', 'm') and n.nspname not in ('vault', 'information_schema') and n.nspname !~ '^pg_'
    union all select unnest(array['pg_catalog.pg_proc', 'pg_catalog.pg_trigger', 'pg_catalog.pg_settings', 'pg_catalog.pg_db_role_setting',
      'pg_catalog.pg_description', 'pg_catalog.pg_stat_activity', 'pg_catalog.pg_event_trigger'])`);
  expect(tables.map(({ name }) => name)).toContain("osp_metadata.worker_registry");
  const found: Record<string, string[]> = {};
  for (const { name } of tables) {
    const rows = await stack.query<{ row: string }>(
      `select t::text as row from ${name} as t where ${
        Object.keys(secrets).map((_, place) => `position($${place + 1} in t::text) > 0`).join(" or ")
      }`,
      Object.values(secrets),
    );
    if (rows.length > 0) found[name] = rows.flatMap(({ row }) => heldIn(row));
  }
  delete found["net.http_request_queue"]; // a ring on its way: its secret rings, and opens nothing else
  expect(found).toEqual({});
});

test("nobody but the owner reads the Vault or a password", async () => {
  const client = new pg.Client({ connectionString: stack.addresses()["DB_URL"] });
  await client.connect();
  try {
    for (
      const role of [
        "anon",
        "authenticated",
        "service_role",
        "osp_writer",
        "osp_deployer",
        "osp_analyst",
        "osp_local_deployer",
      ]
    ) {
      await client.query(`set role ${role}`);
      for (
        const sql of [
          `select * from vault.decrypted_secrets`,
          `select * from vault.secrets`,
          `select vault.create_secret('x', 'y')`,
          `select vault.update_secret(gen_random_uuid(), 'x')`,
          `select * from pg_authid`,
          `select pg_read_file('/etc/passwd')`,
          `copy (select 1) to program 'id'`,
        ]
      ) expect({ role, sql, ...await refusal(client.query(sql)) }).toMatchObject({ role, sql, code: "42501" });
    }
  } finally {
    await client.end();
  }
});

test("a hostile row becomes a worker that is as harmless as any: its words arrive as data, to the byte", async () => {
  const [schema, name] = [
    "constructor",
    "'; drop table osp.services; -- $(reboot) `id` {activity} ../../x %s <b> --help e\u0301",
  ];
  await stack.query(`insert into osp.services (service_schema, service_name, workflows) values ($1, $2, $3)`, [
    schema,
    name,
    '[{"name": "$_", "activities": ["__", "hasOwn"]}]',
  ]);
  await eventually(
    () => stack.query(`select deployment_status from osp_metadata.worker_registry where service_schema = $1`, [schema]),
    ([row]) => row?.["deployment_status"] === "deployed",
    60_000,
  );
  const [registered] = await stack.query<{ manifest: Record<string, unknown>; sha256: string }>(
    `select manifest, manifest_sha256 as sha256 from osp_metadata.worker_registry where service_schema = $1`,
    [schema],
  );
  expect(registered?.manifest).toMatchObject({ service_schema: schema, service_name: name });
  const { API_URL = "", SECRET_KEY = "" } = stack.addresses();
  for (const object of [`${schema}.json`, `${schema}/1-${registered?.sha256}.json`]) {
    const response = await fetch(`${API_URL}/storage/v1/object/manifests/${object}`, {
      headers: { apikey: SECRET_KEY },
    });
    expect(await response.json()).toEqual(registered?.manifest);
  }
  const codeRoot = join(workersDirectory(stack.directory), schema, "1");
  expect(JSON.parse(readFileSync(join(codeRoot, "manifests", `${schema}.json`), "utf8"))).toEqual(registered?.manifest);
  const [worker] = findWorkers(join(workersDirectory(stack.directory), schema));
  expect(readProcess(worker?.pid ?? 0, "environ").split("\0")).toContain(`MANIFEST_PATH=manifests/${schema}.json`);
  for (const file of ["cmdline", "environ"] as const) {
    expect(readProcess(worker?.pid ?? 0, file)).not.toContain("reboot");
  }
});

test("after trouble of every kind no log holds a secret", async () => {
  const { FUNCTIONS_URL = "", API_URL = "" } = stack.addresses();
  await fetch(`${FUNCTIONS_URL}/queue-worker-build`, { method: "POST", headers: { "x-osp-webhook-secret": "wrong" } });
  await fetch(`${API_URL}/rest/v1/services?select=nonsense(`, {
    headers: { apikey: keys.SECRET_KEY, "accept-profile": "osp" },
  });
  await stack.query(
    `select vault.update_secret(id, 'http://127.0.0.1:9/nowhere') from vault.secrets where name = 'osp_functions_url'`,
  );
  await stack.query(`insert into osp.services (service_schema, service_name, workflows, options)
    values ('in_trouble', 'In trouble', '[{"name": "w", "activities": ["a"]}]', '{"no_such_option": 1}')`);
  const postgres = stack.processes()["postgres"]?.pid ?? 0;
  process.kill(postgres, "SIGKILL");
  await eventually(
    () => stack.query(`select 1`).catch(() => []),
    (rows) => rows.length === 1 && stack.processes()["postgres"]?.pid !== postgres,
    60_000,
  );
  await eventually(
    () => Promise.resolve(readFileSync(join(stack.directory, "deployer.log"), "utf8")),
    (log) => /failing|lost/.test(log),
    60_000,
  );
  const logs = filesBelow(stack.directory).filter((path) => path.endsWith(".log"));
  expect(logs.length).toBeGreaterThan(6);
  for (const path of logs) expect({ path, held: heldIn(readFileSync(path, "utf8")) }).toEqual({ path, held: [] });
  expect(heldIn(started.output().replaceAll(`psql "${stack.addresses()["DB_URL"]}"`, "psql"))).toEqual([]);
  expect(existsSync(join(stack.directory, "postgres", "initdb-password"))).toBe(false);
});
