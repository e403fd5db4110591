import { readFileSync } from "node:fs";
import pg from "pg";
import type { StackKeys } from "./stack-state.ts";
import { runSupabaseCli } from "./supabase-cli.ts";

/** What a Supabase database has before any migration: pg_net and the Vault. Stand-ins, see each file. */
export async function prepareDatabase(url: string): Promise<void> {
  await query(url, async (client) => {
    for (const file of ["doorbell/net.sql", "doorbell/vault.sql"]) {
      await client.query(readFileSync(new URL(file, import.meta.url), "utf8"));
    }
  });
}

/** The project's migrations, as they are applied everywhere: by the Supabase CLI. */
export async function migrate(url: string): Promise<void> {
  await runSupabaseCli(["db", "push", `--remote=${url}`, "--yes"]);
}

/** Secrets into the Vault, and a login for the deployer with exactly the rights of osp_deployer. */
export async function configureDatabase(url: string, functionsUrl: string, keys: StackKeys): Promise<void> {
  await query(url, async (client) => {
    for (
      const [name, value] of [["osp_functions_url", functionsUrl], ["osp_webhook_secret", keys.OSP_WEBHOOK_SECRET]]
    ) {
      const { rows } = await client.query(`select vault.update_secret(id, $2) from vault.secrets where name = $1`, [
        name,
        value,
      ]);
      if (rows.length === 0) await client.query(`select vault.create_secret($2, $1)`, [name, value]);
    }
    await client.query(`do $$ begin
      if not exists (select from pg_roles where rolname = 'osp_local_deployer') then
        create role osp_local_deployer login in role osp_deployer;
      end if;
    end $$`);
    await client.query(`alter role osp_local_deployer password ${client.escapeLiteral(keys.DEPLOYER_PASSWORD)}`);
  });
}

export function deployerUrl(url: string, keys: StackKeys): string {
  const deployer = new URL(url);
  deployer.username = "osp_local_deployer";
  deployer.password = keys.DEPLOYER_PASSWORD;
  return deployer.href;
}

async function query(url: string, work: (client: pg.Client) => Promise<void>): Promise<void> {
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 10_000 });
  client.on("error", () => {}); // cut while at work: the query under way tells it
  await client.connect();
  try {
    await work(client);
  } finally {
    await client.end();
  }
}
