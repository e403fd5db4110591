import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { parseConfig } from "../../local/config.ts";
import { startStack } from "../../local/stack.ts";
import { supabaseHosts } from "../../local/supabase-hosts.ts";
import { eventually } from "../support/services.ts";
import { createStackDirectory } from "../support/stack.ts";

// `supabase start` itself needs Docker. Its place is taken by a stack of our own hosts, which has the same addresses,
// Vault and pg_net: what is tested is all that --supabase configures and adds.
const containers = createStackDirectory();
const beside = createStackDirectory();
let stopContainers: () => Promise<unknown>;
beforeAll(async () => {
  const main = containers.start();
  await main.running();
  stopContainers = () => main.end("SIGINT");
  // No deployer belongs to `supabase start`.
  await containers.query(
    `update osp_metadata.platforms set paused_at = now(), pause_reason = 'a test' where name = 'local'`,
  );
});
afterAll(async () => {
  await stopContainers();
  await Promise.all([containers.clear(), beside.clear()]);
});

test("--supabase writes the functions' secrets, sets the Vault's, and adds Temporal and a deployer", async () => {
  const called: string[][] = [];
  const cli = (args: string[]) => {
    called.push(args);
    const lines = Object.entries(containers.addresses()).map(([name, value]) => `${name}="${value}"`);
    return Promise.resolve(args[0] === "status" ? lines.join("\n") : "");
  };
  const functionsEnvFile = join(beside.directory, "functions.env");
  const config = parseConfig({
    OSP_STATE_DIR: beside.directory,
    OSP_TEMPORAL_PORT: "0",
    OSP_TEMPORAL_UI_PORT: "0",
    OSP_ACTIVITY_PORT: "0",
  });
  const said: string[] = [];
  const progress = {
    step: async <Result>(_: string, work: (note: () => void) => Promise<Result>) => await work(() => {}),
    say: (line: string) => said.push(line),
  };
  // The containers' own deployer holds the supervision: ours stands by, so it is ended first.
  process.kill(containers.processes()["deployer"]?.pid ?? 0, "SIGSTOP");
  await containers.query(`select pg_terminate_backend(pid) from pg_stat_activity where usename = 'osp_local_deployer'`);
  const stack = await startStack(config, process.env, progress, {
    hosts: supabaseHosts(cli, functionsEnvFile),
  });
  try {
    expect(called).toEqual([["start"], ["status", "-o", "env"]]);
    const env = readFileSync(functionsEnvFile, "utf8");
    expect(env).toContain(`OSP_DEFAULT_ACTIVITY_ENDPOINT=${stack.addresses.ACTIVITY_URL}/{service_schema}/{activity}`);
    const secret = /OSP_WEBHOOK_SECRET=(\S+)/.exec(env)?.[1];
    const secrets = await containers.query<{ name: string; decrypted_secret: string }>(
      `select name, decrypted_secret from vault.decrypted_secrets order by name`,
    );
    expect(secrets).toEqual([
      { name: "osp_functions_url", decrypted_secret: "http://api.supabase.internal:8000/functions/v1" },
      { name: "osp_webhook_secret", decrypted_secret: secret },
    ]);
    expect(stack.addresses).toMatchObject({
      DB_URL: containers.addresses()["DB_URL"],
      API_URL: containers.addresses()["API_URL"],
    });
    await eventually(
      () =>
        containers.query<{ supervisor: string }>(`select supervisor from osp_metadata.platforms where name = 'local'`),
      ([row]) => row?.supervisor.endsWith(`:${beside.processes()["deployer"]?.pid}`) ?? false,
    );
  } finally {
    await stack.stop();
    process.kill(containers.processes()["deployer"]?.pid ?? 0, "SIGCONT");
  }
});
