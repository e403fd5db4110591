import { formatError } from "../supabase/functions/_shared/problems.ts";

/** A row in hand, with the right to settle it. */
export interface Claim extends Past {
  id: string;
  service_schema: string;
  revision: number;
  source: string;
  /** Null: the revision wants its service stopped. */
  manifest: unknown;
  manifest_sha256: string | null;
  manifest_path: string;
  lease_token: string;
  /** A newer revision replaced it while nobody had it. */
  is_superseded: boolean;
}

/** What the row and its service have behind them. */
interface Past {
  /** On the platform, from this row or the newest older one that has it. */
  known_service_id: string | null;
  /** On the platform, of this row. */
  known_deployment_id: string | null;
  /** On the platform, of this row: found unfit by earlier attempts. */
  rejected_deployment_ids: string[];
  /** Whether a revision of the service ever served on the platform. */
  has_served: boolean;
  attempt: number;
  deferrals: number;
  abandoned: number;
}

/** Of the first claim of a service's first revision. */
const nothing: Past = {
  known_service_id: null,
  known_deployment_id: null,
  rejected_deployment_ids: [],
  has_served: false,
  attempt: 1,
  deferrals: 0,
  abandoned: 0,
};

/** Whether the revision wants its service stopped: it has no manifest to run. */
export function wantsStop(claim: Claim): boolean {
  return claim.manifest === null;
}

/** Deployers that died with a row make it suspect: what it did to them it would do to the next. */
export const SUSPECT_FROM = 2;

export function isSuspect(claim: Claim): boolean {
  return claim.abandoned >= SUSPECT_FROM;
}

/** A row of the statement that claims; the manifest comes as text. */
export interface ClaimRow extends Omit<Claim, keyof Past | "manifest"> {
  manifest: string | null;
  /** Null: nothing. */
  past: Past | null;
}

/** A claim that no deployer can work on. */
export type UnreadableClaim = Claim & { problem: string };

/**
 * One manifest that cannot be read must not take the other claims along: each is parsed alone. Of the rest nothing is checked: Postgres gives
 * what our statement says, and to look at each column took a fifteenth of a claim.
 */
export function readClaims(rows: readonly ClaimRow[]): { claims: Claim[]; unreadable: UnreadableClaim[] } {
  const claims: Claim[] = [];
  const unreadable: UnreadableClaim[] = [];
  for (const { past, manifest: text, ...row } of rows) {
    const { manifest, problem } = readManifest(text);
    const claim = { ...row, ...past ?? nothing, manifest };
    if (problem === undefined) claims.push(claim);
    else unreadable.push({ ...claim, problem });
  }
  return { claims, unreadable };
}

function readManifest(text: string | null): { manifest: unknown; problem?: string } {
  if (text === null) return { manifest: null };
  try {
    const manifest: unknown = JSON.parse(text);
    if (manifest !== null) return { manifest };
    return { manifest, problem: "manifest: is the JSON value null, which is neither a manifest nor a stop" };
  } catch (error) {
    return { manifest: undefined, problem: `manifest: is no JSON that a deployer can read: ${formatError(error)}` };
  }
}
