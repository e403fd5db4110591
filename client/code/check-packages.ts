import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { z } from "zod";

const PACKAGES = ["@temporalio/activity", "@temporalio/common", "@temporalio/workflow"];
const packageSchema = z.object({ version: z.string() });

/**
 * Temporal's packages that a service has installed in another version than workers have: its code would be written for the one and
 * run with the other. A patch makes no difference. Those that it has not installed are ours.
 */
export function checkPackages(directory: string): string[] {
  return PACKAGES.flatMap((name) => {
    const [theirs, ours] = [versionSeenFrom(join(directory, "index.js"), name), versionSeenFrom(import.meta.url, name)];
    if (theirs === undefined || ours === undefined || minorOf(theirs) === minorOf(ours)) return [];
    return [`${name} ${theirs} is installed for it, and workers have ${ours}: npm install ${name}@${ours}`];
  });
}

function versionSeenFrom(file: string, name: string): string | undefined {
  try {
    const path = createRequire(file).resolve(`${name}/package.json`);
    return packageSchema.parse(JSON.parse(readFileSync(path, "utf8"))).version;
  } catch {
    return undefined; // not installed
  }
}

function minorOf(version: string): string {
  return version.split(".").slice(0, 2).join(".");
}
