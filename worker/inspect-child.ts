/**
 * Loads foreign code and tells what it exports, in a process of its own that ends with the answer: whatever the code does
 * while it is loaded, it does there. Request on stdin, answer on file descriptor 3, both JSON: the code may print.
 */
import { readFileSync, writeSync } from "node:fs";
import { json } from "node:stream/consumers";
import { withoutSignals } from "../host/without-signals.ts";
import { checkBundle } from "./check-bundle.ts";
import { importActivities } from "./import-activities.ts";
import { type ActivitiesAnswer, inspectRequestSchema } from "./inspect-code.ts";

if (import.meta.main) {
  const request = inspectRequestSchema.parse(await json(process.stdin));
  withoutSignals();
  const answer = request.kind === "workflows"
    ? checkBundle(readFileSync(request.bundlePath, "utf8"), request.expected)
    : await describeActivities(request.file);
  writeSync(3, JSON.stringify(answer));
  process.exit(0); // the code may have begun something that goes on for ever
}

async function describeActivities(file: string): Promise<ActivitiesAnswer> {
  const exported = await importActivities(file);
  if ("failure" in exported) return exported;
  return { types: Object.fromEntries([...exported.values].map(([name, value]) => [name, typeof value])) };
}
