import { z } from "zod";
import { storable } from "../supabase/functions/_shared/problems.ts";
import type { Claim } from "./claim.ts";

// What the statements that write for many attempts at once have in common. They compare tokens by "is not distinct from": "="
// would offer the planner the index of all leases, which it would read from end to end, with what it still holds of ended ones.

/** Which row, with the right to write to it and to its attempt. */
export type ClaimKeys = Pick<Claim, "id" | "lease_token">;

export function keysOf({ id, lease_token }: ClaimKeys): ClaimKeys {
  return { id, lease_token };
}

/**
 * A parameter that such a statement reads. Whatever an output or an error holds: a character that Postgres refuses would keep
 * the attempt from ever ending.
 */
export function writesJson(writes: object[]): string {
  return JSON.stringify(writes, (_, value: unknown) => typeof value === "string" ? storable(value) : value);
}

/** Ids of the rows that were written, each with `true`. */
export function writtenIds({ rows }: { rows: unknown[] }): Map<string, true> {
  return new Map(z.array(z.object({ id: z.string() })).parse(rows).map(({ id }) => [id, true]));
}

/** The same for the rows that nobody else has locked: many that go together must not wait for one. */
export function unlocked(statement: string): string {
  return statement.replace("for update of r", "for update of r skip locked");
}
