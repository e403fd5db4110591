import { globSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { CLI_VERSION } from "./railway-cli.ts";

/**
 * The schema of Railway's API as it lies in the CLI's sources, where cargo has put them: the path of an introspection
 * result. Undefined on a machine that never built the CLI.
 */
export function findCliSchema(environment: NodeJS.ProcessEnv): string | undefined {
  const cargo = environment["CARGO_HOME"] || join(environment["HOME"] || homedir(), ".cargo");
  return globSync(join(cargo, "registry", "src", "*", `railwayapp-${CLI_VERSION}`, "src", "gql", "schema.json"))[0];
}
