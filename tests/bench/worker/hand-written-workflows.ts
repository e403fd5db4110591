import { proxyActivities } from "@temporalio/workflow";

type Step = (input: unknown) => Promise<unknown>;

const { charge, book } = proxyActivities<{ charge: Step; book: Step }>({
  startToCloseTimeout: "20s",
  heartbeatTimeout: "10s",
  retry: { maximumInterval: "1 minute" },
});

/** What somebody writes who needs these two steps: the peer of the built-in workflow. */
export async function bill(input: unknown): Promise<unknown> {
  return await book(await charge(input));
}
