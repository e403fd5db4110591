// Writes client/database.types.ts from a migrated database: `node scripts/generate-types.ts <postgres url>`.
import { writeFileSync } from "node:fs";
import { fileURLToPath, pathToFileURL } from "node:url";
import { execa } from "execa";

const root = fileURLToPath(new URL("../", import.meta.url));
const header = "// Generated from the migrations by scripts/generate-types.ts; do not edit.\n";

/** The types of our schemas as `supabase gen types` tells them, formatted. */
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

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  const [databaseUrl] = process.argv.slice(2);
  if (databaseUrl === undefined) {
    console.error("Cannot generate types: the argument is missing: the URL of a database with all migrations");
    process.exit(2);
  }
  writeFileSync(new URL("../client/database.types.ts", import.meta.url), await generateTypes(databaseUrl));
}
