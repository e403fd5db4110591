/**
 * Replays histories against bundled workflows, one after the other. Request on stdin, answer on file descriptor 3, both JSON: the
 * workflows may print.
 */
import proto from "@temporalio/proto";
import { DefaultLogger, makeTelemetryFilterString, Runtime, Worker } from "@temporalio/worker";
import { readFileSync, writeSync } from "node:fs";
import { json } from "node:stream/consumers";
import { withoutSignals } from "../../host/without-signals.ts";
import { formatError } from "../../supabase/functions/_shared/problems.ts";
import { type ReplayAnswer, type ReplayRequest, replayRequestSchema } from "./replay-histories.ts";

if (import.meta.main) {
  const request = replayRequestSchema.parse(await json(process.stdin));
  withoutSignals();
  const answer = await replay(request);
  writeSync(3, JSON.stringify(answer));
  process.exit(0); // a workflow may have begun something that goes on for ever
}

async function replay({ bundlePath, histories }: ReplayRequest): Promise<ReplayAnswer> {
  Runtime.install({
    logger: new DefaultLogger("ERROR"),
    telemetryOptions: { logging: { filter: makeTelemetryFilterString({ core: "ERROR" }) } },
  });
  const mismatches: ReplayAnswer = [];
  const replayed = Worker.runReplayHistories({ workflowBundle: { codePath: bundlePath } }, read(histories));
  for await (const { runId, error } of replayed) {
    if (error === undefined) continue;
    const reason = reasonOf(formatError(error));
    // The SDK gives up on a workflow that does not come to its next step in time: here, on a machine that is busy.
    if (/TMPRL1101|deadlock/i.test(reason)) throw new Error(reason);
    mismatches.push({ runId, reason });
  }
  return mismatches;
}

/** The rule that was broken and the event; the SDK wraps it in a dump of what its core holds. */
function reasonOf(message: string): string {
  return (/\[TMPRL1100\][^"]*/.exec(message)?.[0] ?? message).trim().slice(0, 1000);
}

/** One at a time in memory. */
function* read(histories: ReplayRequest["histories"]) {
  for (const { workflowId, file } of histories) {
    yield { workflowId, history: proto.temporal.api.history.v1.History.decode(readFileSync(file)) };
  }
}
