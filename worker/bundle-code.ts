/**
 * Makes a directory of a service's own modules, `workflows.mjs` and `activities.mjs`, into what a worker starts from: bundles the
 * workflows beside them, and tells what came out. `osp code push` runs it. Answer on stdout, JSON.
 */
import { existsSync, realpathSync } from "node:fs";
import { join } from "node:path";
import { CODE_FILES } from "../supabase/functions/_shared/service-code.ts";
import { inspectActivities, inspectWorkflows } from "./inspect-code.ts";
import { runBundleChild } from "./run-bundle-child.ts";
import { sdkVersion } from "./sdk-version.ts";

interface BundledCode {
  sdk_version: string;
  problems: string[];
  /** Why something could not be looked at here, though it may well be right. */
  unverified: string[];
  /** Functions that each module exports; undefined: there is no such module, or it could not be looked at. */
  workflows?: string[];
  activities?: string[];
}

if (import.meta.main) {
  const directory = realpathSync(process.argv[2] ?? ".");
  const code: BundledCode = { sdk_version: sdkVersion(), problems: [], unverified: [] };
  await Promise.all([bundleWorkflows(directory, code), lookAtActivities(directory, code)]);
  process.stdout.write(JSON.stringify(code));
}

async function bundleWorkflows(directory: string, code: BundledCode): Promise<void> {
  const entryFile = join(directory, CODE_FILES.workflows);
  if (!existsSync(entryFile)) return;
  const outputFile = join(directory, CODE_FILES.workflowBundle);
  const { problems } = await runBundleChild({ entryFile, outputFile, portableFrom: directory });
  code.problems.push(...problems);
  if (problems.length > 0) return;
  const found = await inspectWorkflows(outputFile, [], true);
  code.problems.push(...found.problems);
  if (found.unverified !== undefined) code.unverified.push(`workflows cannot be loaded: ${found.unverified}`);
  else if (found.problems.length === 0) code.workflows = found.functions;
}

async function lookAtActivities(directory: string, code: BundledCode): Promise<void> {
  const file = join(directory, CODE_FILES.activities);
  if (!existsSync(file)) return;
  const found = await inspectActivities({ kind: "pushed", file, name: CODE_FILES.activities });
  if ("problem" in found) code.problems.push(`activities cannot be loaded: ${found.problem}`);
  else if ("failure" in found) code.unverified.push(`activities cannot be loaded: ${found.failure}`);
  else code.activities = [...found.types].filter(([, type]) => type === "function").map(([name]) => name);
}
