import { dirname } from "node:path";
import { fileURLToPath } from "node:url";
import { z } from "zod";
import { runIsolated } from "../../host/isolated-node.ts";
import { PlatformError } from "../platforms/platform.ts";

const CHILD = fileURLToPath(new URL("./replay-child.ts", import.meta.url));
const HEAP_MB = 512;

export const replayRequestSchema = z.object({
  /** Temporal's bundle of the workflows. */
  bundlePath: z.string(),
  /** Files of `fetchHistory`. */
  histories: z.array(z.object({ workflowId: z.string(), runId: z.string(), file: z.string() })),
});
export type ReplayRequest = z.infer<typeof replayRequestSchema>;

/** What does not replay, and why. */
const replayAnswerSchema = z.array(z.object({ runId: z.string(), reason: z.string() }));
export type ReplayAnswer = z.infer<typeof replayAnswerSchema>;

/**
 * Replays histories against a bundle, in a process of its own that sees these files alone and has an empty environment.
 *
 * @throws {PlatformError} transient where the process does not come to an answer
 */
export async function replayHistories(
  request: ReplayRequest,
  directory: string,
  timeoutMs: number,
  signal: AbortSignal,
): Promise<ReplayAnswer> {
  const end = await runIsolated({
    script: CHILD,
    input: JSON.stringify(request),
    timeoutMs,
    signal,
    access: { read: [directory, dirname(request.bundlePath)], addons: true, threads: true },
    heapMb: HEAP_MB,
  });
  if (end.code === 0) return replayAnswerSchema.parse(JSON.parse(end.answer));
  const how = end.isLate ? `is not done after ${timeoutMs / 1000} s` : `ended with ${end.signal ?? end.code}`;
  throw new PlatformError(
    "transient",
    "replay_failed",
    `Replaying ${request.histories.length} open workflows with the new code ${how}. Fewer are replayed by ` +
      "OSP_REPLAY_GATE_WORKFLOWS of the deployer, none by options.replay_gate: false",
    { logTail: `${end.stdout}${end.stderr}` },
  );
}
