import { accessSync, constants, realpathSync, statSync } from "node:fs";
import { basename, delimiter, join } from "node:path";
import { StartError } from "../../start-error.ts";

/** No usable CLI is there; the message says what to do. */
export class CliNotFoundError extends StartError {
  override readonly name = "CliNotFoundError";
}

/**
 * The program that is to be run: `path`, else `railway` on `searchPath` (PATH). What npm installs is a script around the
 * native binary: killing it would orphan the binary, so the binary beside it is taken.
 *
 * @throws {CliNotFoundError}
 */
export function findCli(path: string | undefined, searchPath: string): string {
  const found = path === undefined
    ? searchPath.split(delimiter).filter(Boolean).map((directory) => join(directory, "railway")).find(isExecutable)
    : isExecutable(path)
    ? path
    : undefined;
  if (found === undefined) throw new CliNotFoundError(notFound(path));
  const real = realpathSync(found);
  if (basename(real) !== "railway.js") return real;
  const native = join(real, "..", "railway");
  if (isExecutable(native)) return native;
  throw new CliNotFoundError(
    `${found} is the script of the npm package @railway/cli, and the binary that belongs beside it, ${native}, is missing ` +
      "(npm's install scripts may be off): install it, or set RAILWAY_CLI_PATH to a native Railway CLI",
  );
}

function notFound(path: string | undefined): string {
  const install =
    "install Railway CLI 5.41.2 or newer (npm install -g @railway/cli, or cargo install railwayapp --version 5.71.0 --locked)";
  return path === undefined
    ? `there is no railway on PATH: ${install}, or set RAILWAY_CLI_PATH to it`
    : `RAILWAY_CLI_PATH is ${path}, which is no executable file: correct it, or ${install}`;
}

function isExecutable(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return statSync(file).isFile();
  } catch {
    return false;
  }
}
