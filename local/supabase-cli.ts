import { execa } from "execa";
import { REPOSITORY, StackError } from "./config.ts";

/** Runs the Supabase CLI; resolves with its stdout. */
export type SupabaseCli = (args: string[]) => Promise<string>;

/**
 * The Supabase CLI that the project pins, on the project.
 *
 * @throws {StackError} with the end of what it said
 */
export const runSupabaseCli: SupabaseCli = async (given) => {
  const { args, password } = withoutPassword(given);
  const { stdout, all, exitCode } = await execa("supabase", args, {
    cwd: REPOSITORY,
    preferLocal: true,
    localDir: REPOSITORY,
    stdin: "ignore",
    all: true,
    reject: false,
    // A database of this machine has no certificate.
    env: { SUPABASE_TELEMETRY_DISABLED: "1", DO_NOT_TRACK: "1", PGSSLMODE: "disable", ...password },
  });
  if (exitCode === 0) return stdout;
  throw new StackError(`Cannot run supabase ${args.join(" ")}: ${all.trim().split("\n").slice(-12).join("\n")}`);
};

/** The password of a database's URL goes into the environment: a command line can be read by everybody on the machine. */
function withoutPassword(args: string[]): { args: string[]; password: { PGPASSWORD?: string } } {
  const password: { PGPASSWORD?: string } = {};
  const told = args.map((argument) => {
    const [, flag = "", text = ""] = /^(--[a-z-]+=)(postgres(?:ql)?:\/\/.*)$/.exec(argument) ?? [];
    if (!URL.canParse(text)) return argument;
    const url = new URL(text);
    if (url.password !== "") password.PGPASSWORD = decodeURIComponent(url.password);
    url.password = "";
    return flag + url.href;
  });
  return { args: told, password };
}
