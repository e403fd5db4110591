import { execa } from "execa";
import { REPOSITORY, StackError } from "./config.ts";

/** Runs the Supabase CLI; resolves with its stdout. */
export type SupabaseCli = (args: string[]) => Promise<string>;

/**
 * The Supabase CLI that the project pins, on the project.
 *
 * @throws {StackError} with the end of what it said
 */
export const runSupabaseCli: SupabaseCli = async (args) => {
  const { stdout, all, exitCode } = await execa("supabase", args, {
    cwd: REPOSITORY,
    preferLocal: true,
    localDir: REPOSITORY,
    stdin: "ignore",
    all: true,
    reject: false,
    // A database of this machine has no certificate.
    env: { SUPABASE_TELEMETRY_DISABLED: "1", DO_NOT_TRACK: "1", PGSSLMODE: "disable" },
  });
  if (exitCode === 0) return stdout;
  // The URL of a database holds its password.
  const command = args.filter((argument) => !argument.includes("://")).join(" ");
  throw new StackError(`Cannot run supabase ${command}: ${all.trim().split("\n").slice(-12).join("\n")}`);
};
