import { chmodSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import { formatError, formatProblems, problemsOf } from "../supabase/functions/_shared/problems.ts";
import { allOrFirstFailure, launchBesideSupabase } from "./building.ts";
import { REPOSITORY, StackError } from "./config.ts";
import { configureDatabase, migrate } from "./database.ts";
import type { Hosts } from "./stack.ts";
import { launchDeployer } from "./stack-platform.ts";
import { addressesOf, type StackAddresses } from "./stack-programs.ts";
import { runSupabaseCli, type SupabaseCli } from "./supabase-cli.ts";

/** Where the database container finds the API: an alias that the CLI gives to its gateway. */
const FUNCTIONS_URL_INSIDE = "http://api.supabase.internal:8000/functions/v1";

const statusSchema = z.object({
  API_URL: z.url(),
  DB_URL: z.string(),
  PUBLISHABLE_KEY: z.string(),
  SECRET_KEY: z.string(),
  FUNCTIONS_URL: z.url().optional(),
});

/**
 * The containers of `supabase start` instead of our stand-ins: real pg_net, Vault, Storage and edge runtime. Needs Docker.
 * Configures them and adds Temporal and the deployer. The containers stay up when the stack ends: `supabase stop`.
 *
 * @param functionsEnvFile where the edge runtime reads the functions' secrets from
 */
export function supabaseHosts(
  cli: SupabaseCli = runSupabaseCli,
  functionsEnvFile = join(REPOSITORY, "supabase/functions/.env"),
): Hosts {
  return {
    ports: ["OSP_TEMPORAL_PORT", "OSP_TEMPORAL_UI_PORT", "OSP_ACTIVITY_PORT"],
    async bringUp(building) {
      const { state, ports, config, progress } = building;
      const own = addressesOf(ports, state);
      // Read when the edge runtime starts: written before.
      writeFunctionsEnv(functionsEnvFile, {
        OSP_WEBHOOK_SECRET: state.keys.OSP_WEBHOOK_SECRET,
        OSP_DEFAULT_ACTIVITY_ENDPOINT: config.OSP_DEFAULT_ACTIVITY_ENDPOINT ??
          `${own.ACTIVITY_URL}/{service_schema}/{activity}`,
      });
      await progress.step("supabase start", () => start(cli));
      const status = parseStatus(await cli(["status", "-o", "env"]));
      const addresses: StackAddresses = {
        ...own,
        ...status,
        FUNCTIONS_URL: status.FUNCTIONS_URL ?? `${status.API_URL}/functions/v1`,
      };
      await allOrFirstFailure([
        ...launchBesideSupabase(addresses, building),
        progress.step("Migrations and secrets", async () => {
          await migrate(addresses.DB_URL);
          await configureDatabase(addresses.DB_URL, FUNCTIONS_URL_INSIDE, state.keys);
        }),
      ]);
      await launchDeployer(addresses, building);
      return addresses;
    },
  };
}

async function start(cli: SupabaseCli): Promise<void> {
  try {
    await cli(["start"]);
  } catch (error) {
    throw new StackError(`${formatError(error)}\n--supabase needs Docker; without it: npm start`, { cause: error });
  }
}

function writeFunctionsEnv(file: string, values: Record<string, string>): void {
  const lines = Object.entries(values).map(([name, value]) => `${name}=${value}\n`);
  writeFileSync(file, "", { mode: 0o600 });
  chmodSync(file, 0o600); // one that is there keeps its mode
  writeFileSync(file, lines.join(""));
}

/** `NAME="value"` lines. @throws {StackError} naming what is missing */
function parseStatus(output: string) {
  const values = Object.fromEntries(
    output.split("\n").flatMap((line) => {
      const [, name, value] = /^([A-Z0-9_]+)="?([^"]*)"?$/.exec(line.trim()) ?? [];
      return name !== undefined && value !== undefined ? [[name, value] as const] : [];
    }),
  );
  const parsed = statusSchema.safeParse(values);
  if (parsed.success) return { ...parsed.data };
  throw new StackError(
    `Cannot read \`supabase status -o env\`: ${formatProblems(problemsOf(parsed.error, undefined))}`,
  );
}
