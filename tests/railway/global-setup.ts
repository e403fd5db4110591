import type { TestProject } from "vitest/node";
import { findCliSchema } from "../../local/railway/cli-schema.ts";
import { findRailwayCli } from "../../local/railway/railway-cli.ts";

declare module "vitest" {
  export interface ProvidedContext {
    /** The real CLI. */
    railwayCli: string;
    /** Its sources' schema of Railway's API; null where only a binary was given. */
    railwaySchema: string | null;
  }
}

/** Builds the CLI where this machine has none yet. */
export default async function setup(project: TestProject) {
  const cli = await findRailwayCli(process.env, (text) => console.error(`Railway: ${text}`), { mayBuild: true });
  if (cli === undefined) {
    throw new Error("There is no Railway CLI and cargo cannot build one: set RAILWAY_CLI_PATH to a CLI of 5.71.0");
  }
  const schema = findCliSchema(process.env) ?? null;
  if (schema === null) console.error("Railway: documents are not compared with Railway's schema, for it is not here");
  project.provide("railwayCli", cli);
  project.provide("railwaySchema", schema);
}
