import { chmodSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { cacheDirectory } from "../../host/cache-directory.ts";
import { CLI_VERSION } from "./railway-cli.ts";

const MAIN = fileURLToPath(new URL("stub/main.ts", import.meta.url));

/**
 * Writes an executable `railway` into a directory: the stub of the CLI, for where the real one is not built. It needs
 * nothing of its environment but what the CLI needs. @returns its path
 *
 * @param environment the caller's, for where its cache is
 * @param version what it says to `--version` and signs its requests with
 */
export function writeStubCli(directory: string, environment: NodeJS.ProcessEnv, version = CLI_VERSION): string {
  mkdirSync(directory, { recursive: true });
  const file = join(directory, "railway");
  // The caller's cache: the HOME of a call is a new one, and each would compile everything again.
  const cache = quoted(join(cacheDirectory(environment), "compile-cache"));
  const program = [process.execPath, MAIN, version].map(quoted).join(" ");
  writeFileSync(file, `#!/bin/sh\nNODE_COMPILE_CACHE=${cache} exec ${program} "$@"\n`);
  chmodSync(file, 0o755);
  return file;
}

function quoted(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}
