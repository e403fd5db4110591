import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import {
  BUNDLE_VERSION,
  type CodeDescription,
  PROBE_WORKFLOW,
} from "../../../supabase/functions/_shared/service-code.ts";

const BUNDLE_CODE = fileURLToPath(new URL("../../../worker/bundle-code.ts", import.meta.url));
export const sdkVersion: string = createRequire(import.meta.url)("@temporalio/worker/package.json").version;

/** A push adds it to the workflows. */
const PROBE = `export async function ${PROBE_WORKFLOW}() {}\n`;

/** Modules as a push has bundled them from a service's sources; what is left out the code does not bring. */
export interface PushedModules {
  workflows?: string;
  activities?: string;
  /** Names that the modules export. */
  exported?: Pick<CodeDescription, "workflows" | "activities">;
}

/** Files of pushed code, by their place in a code root, with Temporal's own bundle of the workflows. */
export function pushedCode(directory: string, { workflows, activities, exported }: PushedModules): void {
  const write = (name: string, text: string) => {
    mkdirSync(dirname(join(directory, name)), { recursive: true });
    writeFileSync(join(directory, name), text);
  };
  if (workflows !== undefined) write("code/workflows.mjs", `${PROBE}${workflows}`);
  if (activities !== undefined) write("code/activities.mjs", activities);
  const namesIn = (text: string) =>
    [...text.matchAll(/^export (?:async function|function|const) (\w+)/gm)].map(([, name = ""]) => name);
  const description: CodeDescription = {
    format: 1,
    sdk_version: sdkVersion,
    bundle_version: BUNDLE_VERSION,
    ...(workflows === undefined ? {} : { workflows: namesIn(workflows) }),
    ...(activities === undefined ? {} : { activities: namesIn(activities) }),
    ...exported,
  };
  write("code/code.json", JSON.stringify(description));
  if (workflows !== undefined) execFileSync(process.execPath, [BUNDLE_CODE, join(directory, "code")], { env: {} });
}

/** A code root's `code/code.json`, changed. */
export function describeOtherwise(directory: string, changes: object): void {
  const file = join(directory, "code", "code.json");
  writeFileSync(file, JSON.stringify({ ...JSON.parse(readFileSync(file, "utf8")), ...changes }));
}
