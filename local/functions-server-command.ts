import { realpathSync } from "node:fs";
import { fileURLToPath } from "node:url";

/**
 * What starts the functions server, to be spawned in the repository. Offline: node_modules has every package.
 *
 * The binary itself, not `node_modules/.bin/deno`: that is a script which waits for it, and which a SIGTERM ends alone,
 * leaving the server behind.
 *
 * @param functionsDirectory another directory of functions, for tests
 */
export function functionsServerCommand(functionsDirectory?: string): { command: string; arguments: string[] } {
  const repository = fileURLToPath(new URL("..", import.meta.url));
  // Deno asks for the rights on a path as it is, behind links: a worktree may share another's node_modules.
  const packages = realpathSync(new URL("../node_modules", import.meta.url));
  const readable = [repository, packages, ...(functionsDirectory === undefined ? [] : [functionsDirectory])];
  return {
    command: fileURLToPath(import.meta.resolve(process.platform === "win32" ? "deno/deno.exe" : "deno/deno")),
    arguments: [
      ...["run", "--quiet", "--no-prompt", "--no-lock", "--cached-only", "--node-modules-dir=manual"],
      // The functions talk to the API of this machine alone; Deno's rights name hosts, not ports.
      ...["--allow-net=127.0.0.1", "--allow-env", `--allow-read=${readable.join(",")}`],
      fileURLToPath(new URL("functions-server.ts", import.meta.url)),
      ...(functionsDirectory === undefined ? [] : [functionsDirectory]),
    ],
  };
}
