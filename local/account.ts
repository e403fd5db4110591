import { execFileSync, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { join } from "node:path";

/** Another user of this machine, to run Postgres as: it refuses root. */
export interface Account {
  name: string;
  uid: number;
  gid: number;
}

/** The account Postgres runs as; undefined where we are an ordinary user and it runs as us. */
export function accountForPostgres(): Account | undefined {
  if (process.getuid?.() !== 0) return undefined;
  const account = findAccount("postgres") ?? findAccount("nobody");
  if (account !== undefined) return account;
  throw new Error(
    `Cannot run Postgres: it refuses to run as root, and this machine has neither a user "postgres" nor "nobody". ` +
      `Run as an ordinary user, or add one of them: useradd --system postgres`,
  );
}

function findAccount(name: string): Account | undefined {
  try {
    const id = (flag: string) => Number(execFileSync("id", [flag, name], { encoding: "utf8", stdio: "pipe" }));
    return { name, uid: id("-u"), gid: id("-g") };
  } catch {
    return undefined; // id exits 1 for an unknown user
  }
}

/**
 * Options for spawning a process as the account, or as us: in an environment built from nothing, for what the person's shell
 * holds is not the database's. Of the account, the directory is `/`: ours may be closed to it.
 */
export function runAs(account: Account | undefined) {
  const env = { PATH: process.env["PATH"] ?? "", LANG: "C" };
  if (account === undefined) return { env: { ...env, HOME: process.env["HOME"] ?? "/" } };
  return { uid: account.uid, gid: account.gid, cwd: "/", env: { ...env, HOME: "/" } };
}

export function canReach(directory: string, account: Account): boolean {
  return spawnSync("test", ["-x", directory], { uid: account.uid, gid: account.gid, cwd: "/" }).status === 0;
}

/** A directory of root's that every account can reach, one per directory of ours. */
export function homeOutsideOurs(directory: string): string {
  return join("/var/lib/osp", createHash("sha256").update(directory).digest("hex").slice(0, 16));
}
