import { fileURLToPath } from "node:url";
import { execa } from "execa";

const root = fileURLToPath(new URL("../", import.meta.url));
const header = "// Generated from the migrations by `npm run types`; do not edit.\n";

/** What client/database.types.ts holds: the types of a database's schemas as `supabase gen types` tells them, formatted. */
export async function generateTypes(databaseUrl: string): Promise<string> {
  const options = { cwd: root, preferLocal: true, localDir: root };
  const { stdout } = await execa(
    "supabase",
    ["gen", "types", `--remote=${databaseUrl}`, "--schema", "osp,osp_metadata"],
    { ...options, env: { SUPABASE_TELEMETRY_DISABLED: "1", PGSSLMODE: "disable" } },
  );
  // A remark about the connection may come before the types.
  const types = stdout.slice(stdout.indexOf("export type Json"));
  const formatted = await execa("deno", ["fmt", "--ext", "ts", "-"], { ...options, input: header + types });
  return `${formatted.stdout}\n`;
}
