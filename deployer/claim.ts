import { z } from "zod";
import { formatError, formatProblems, problemsOf } from "../supabase/functions/_shared/problems.ts";

/** A row in hand, with the right to settle it. */
const claimSchema = z.object({
  id: z.string(),
  service_schema: z.string(),
  revision: z.int(),
  source: z.string(),
  /** Null: the revision wants its service stopped. */
  manifest: z.unknown(),
  manifest_sha256: z.string().nullable(),
  manifest_path: z.string(),
  /** On the platform, from this row or the newest older one that has it. */
  known_service_id: z.string().nullable(),
  /** On the platform, of this row. */
  known_deployment_id: z.string().nullable(),
  /** On the platform, of this row: found unfit by earlier attempts. */
  rejected_deployment_ids: z.array(z.string()),
  /** Whether a revision of the service ever served on the platform. */
  has_served: z.boolean(),
  lease_token: z.string(),
  /** A newer revision replaced it while nobody had it. */
  is_superseded: z.boolean(),
  attempt: z.int(),
  deferrals: z.int(),
  abandoned: z.int(),
});
export type Claim = z.infer<typeof claimSchema>;

/** Whether the revision wants its service stopped: it has no manifest to run. */
export function wantsStop(claim: Claim): boolean {
  return claim.manifest === null;
}

/** Deployers that died with a row make it suspect: what it did to them it would do to the next. */
export const SUSPECT_FROM = 2;

export function isSuspect(claim: Claim): boolean {
  return claim.abandoned >= SUSPECT_FROM;
}

/** One manifest that cannot be read must not take the other claims along: each is parsed alone. */
const claimRow = claimSchema.extend({
  manifest: z.string().nullable().transform((text, context): unknown => {
    if (text === null) return null;
    try {
      const manifest: unknown = JSON.parse(text);
      if (manifest !== null) return manifest;
      context.addIssue("is the JSON value null, which is neither a manifest nor a stop");
    } catch (error) {
      context.addIssue(`is no JSON that a deployer can read: ${formatError(error)}`);
    }
    return z.NEVER;
  }),
});

/** What a claim needs to be given up. */
const unreadableRow = z.object({
  id: z.string(),
  service_schema: z.string(),
  lease_token: z.string(),
  attempt: z.int(),
  manifest: z.string().nullable(),
});

/** A claim that no deployer can work on. */
export type UnreadableClaim = z.infer<typeof unreadableRow> & { problem: string };

/** Rows of the statement that claims; the manifest comes as text. */
export function readClaims(rows: unknown[]): { claims: Claim[]; unreadable: UnreadableClaim[] } {
  const claims: Claim[] = [];
  const unreadable: UnreadableClaim[] = [];
  for (const row of rows) {
    const { success, data, error } = claimRow.safeParse(row);
    if (success) claims.push(data);
    else unreadable.push({ ...unreadableRow.parse(row), problem: formatProblems(problemsOf(error, undefined)) });
  }
  return { claims, unreadable };
}
