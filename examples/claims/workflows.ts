import { condition, defineQuery, defineSignal, proxyActivities, setHandler } from "@temporalio/workflow";
import type * as activities from "./activities.ts";

const { registerClaim, remindAssessor, payClaim } = proxyActivities<typeof activities>({
  startToCloseTimeout: "1 minute",
});

export type Decision = "approved" | "rejected";

/** What an assessor sends. */
export const decide = defineSignal<[Decision]>("decide");
export const status = defineQuery<string>("status");

/** Waits for an assessor's decision, who is reminded after a while, and pays what is approved. */
export async function processClaim(input: unknown, remindAfterMs = 3 * 24 * 3_600_000): Promise<string> {
  let decision: Decision | undefined;
  let reminders = 0;
  setHandler(decide, (made) => void (decision = made));
  setHandler(status, () => decision ?? `waiting, ${reminders} reminders sent`);

  const claim = await registerClaim(input);
  while (!(await condition(() => decision !== undefined, remindAfterMs))) {
    await remindAssessor(claim);
    reminders += 1;
  }
  return decision === "approved" ? await payClaim(claim) : `${claim.claim_id} rejected`;
}
