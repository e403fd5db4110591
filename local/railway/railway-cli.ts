import { existsSync, mkdirSync, mkdtempSync, renameSync, rmSync } from "node:fs";
import { dirname, join } from "node:path";
import { execa } from "execa";
import { cacheDirectory } from "../../host/cache-directory.ts";
import { formatError } from "../../supabase/functions/_shared/problems.ts";
import { StackError } from "../config.ts";

export const CLI_VERSION = "5.71.0";

/** A build takes minutes and gigabytes, so only who says so gets one. */
export interface FindOptions {
  mayBuild: boolean;
}

/**
 * The Railway CLI: `RAILWAY_CLI_PATH`, else the user's cache directory, where cargo builds it once per machine (about nine
 * minutes on two cores, 2.4 GB of memory). Undefined where there is none and none can be built.
 *
 * @throws {StackError} when RAILWAY_CLI_PATH names no file
 */
export async function findRailwayCli(
  environment: NodeJS.ProcessEnv,
  note: (text: string) => void,
  { mayBuild }: FindOptions,
): Promise<string | undefined> {
  const given = environment["RAILWAY_CLI_PATH"];
  if (given) {
    if (existsSync(given)) return given;
    throw new StackError(`Cannot use RAILWAY_CLI_PATH: there is no file ${given}`);
  }
  const directory = join(cacheDirectory(environment), `railway-${CLI_VERSION}`);
  const cached = join(directory, "bin", "railway");
  if (existsSync(cached)) return cached;
  if (!mayBuild) return undefined;
  note(`building the CLI ${CLI_VERSION}, once for this machine: about nine minutes on two cores`);
  try {
    await build(directory, environment);
    return cached;
  } catch (error) {
    note(`cargo cannot build railwayapp ${CLI_VERSION}: ${formatError(error).slice(0, 500)}`);
    return undefined;
  }
}

/** Built beside its place and then moved: whoever finds the directory finds all of it. */
async function build(directory: string, environment: NodeJS.ProcessEnv): Promise<void> {
  mkdirSync(dirname(directory), { recursive: true });
  const building = mkdtempSync(`${directory}.`);
  const root = join(building, "root");
  try {
    await execa("cargo", ["install", "railwayapp", "--version", CLI_VERSION, "--locked", "--quiet", "--root", root], {
      env: { ...environment, CARGO_TARGET_DIR: join(building, "target") },
      extendEnv: false,
      stdin: "ignore",
    });
    renameSync(root, directory);
  } catch (error) {
    if (!existsSync(directory)) throw error; // else another run was quicker
  } finally {
    rmSync(building, { recursive: true, force: true });
  }
}
