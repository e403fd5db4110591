import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import type { Journal } from "./journal.ts";

// What a stand-in that is a program of the stack tells the others, in its part of the state directory.

const accessSchema = z.object({
  HTTPS_PROXY: z.string(),
  SSL_CERT_FILE: z.string(),
  /** Of its workspace. */
  token: z.string(),
  /** Ids. */
  project: z.string(),
  environment: z.string(),
});
/** How it is reached. */
export type RailwayAccess = z.infer<typeof accessSchema>;

const summarySchema = z.object({
  /** Requests by operation. */
  requests: z.record(z.string(), z.int()),
  /** What no well-behaved client does. */
  violations: z.array(z.string()),
});
/** What was asked of it from its start to its end. */
export type RailwaySummary = z.infer<typeof summarySchema>;

const ACCESS = "access.json";
const SUMMARY = "summary.json";

export function writeAccess(directory: string, access: RailwayAccess): void {
  mkdirSync(directory, { recursive: true });
  writeFileSync(join(directory, ACCESS), JSON.stringify(access), { mode: 0o600 });
}

export function readAccess(directory: string): RailwayAccess {
  return accessSchema.parse(JSON.parse(readFileSync(join(directory, ACCESS), "utf8")));
}

export function writeSummary(directory: string, { requests, violations }: Journal): void {
  const counts: Record<string, number> = {};
  for (const { operation } of requests) counts[operation] = (counts[operation] ?? 0) + 1;
  writeFileSync(join(directory, SUMMARY), JSON.stringify({ requests: counts, violations } satisfies RailwaySummary));
}

export function readSummary(directory: string): RailwaySummary {
  return summarySchema.parse(JSON.parse(readFileSync(join(directory, SUMMARY), "utf8")));
}
