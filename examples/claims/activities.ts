import { ApplicationFailure, log } from "@temporalio/activity";
import { z } from "zod";

const claimSchema = z.object({
  claim_id: z.string().min(1),
  /** In cents. */
  amount: z.int().min(1),
});
export type Claim = z.infer<typeof claimSchema>;

/** Registers a claim. One that is not valid will not be at the next attempt either. */
export async function registerClaim(input: unknown): Promise<Claim> {
  const parsed = claimSchema.safeParse(input);
  if (!parsed.success) throw ApplicationFailure.nonRetryable(z.prettifyError(parsed.error), "InvalidClaim");
  return parsed.data;
}

export async function remindAssessor(claim: Claim): Promise<void> {
  log.info(`claim ${claim.claim_id} waits for a decision`);
}

export async function payClaim({ claim_id, amount }: Claim): Promise<string> {
  return `${claim_id} paid: ${(amount / 100).toFixed(2)}`;
}
