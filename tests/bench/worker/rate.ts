import { type BenchResult, createResult, median } from "../result.ts";
import type { RunningWorker, WorkerStand } from "./stand.ts";

const ROUNDS = 6;
const WORKFLOWS = 300;

/** Workflows per second through the built-in modules beside the hand-written ones: the same two steps, all started at once. */
export async function measureWorkflowRate(stand: WorkerStand, write: (line: string) => void): Promise<BenchResult> {
  const rates = { ours: [] as number[], "hand-written": [] as number[] };
  for (const kind of ["ours", "hand-written"] as const) {
    const warm = await stand.start(kind, `warm_${kind.replace("-", "_")}`);
    await runBatch(stand, warm, 50);
    await warm.stop();
  }
  for (let round = 1; round <= ROUNDS; round++) {
    const kinds = ["ours", "hand-written"] as const;
    for (const kind of round % 2 === 0 ? kinds.toReversed() : kinds) {
      const worker = await stand.start(kind, `rate_${kind.replace("-", "_")}_${round}`);
      await runBatch(stand, worker, 20); // what a first workflow loads
      const rate = await runBatch(stand, worker, WORKFLOWS);
      await worker.stop();
      rates[kind].push(rate);
      write(`  ${kind} ${round}: ${rate.toFixed(0)} workflows per second`);
    }
  }
  const [ours, peer] = [median(rates.ours), median(rates["hand-written"])];
  return createResult({
    name: "workflow_rate",
    value: ours / peer,
    unit: "ratio",
    goal: 0.9,
    bound: "at least",
    raw: { workflows: WORKFLOWS, rounds: ROUNDS, ours_per_second: ours, hand_written_per_second: peer },
  });
}

async function runBatch({ client }: WorkerStand, { taskQueue }: RunningWorker, count: number): Promise<number> {
  const startedAt = performance.now();
  await Promise.all(
    Array.from({ length: count }, (_, number) =>
      client.workflow.execute("bill", {
        taskQueue,
        workflowId: `${taskQueue}-${count}-${number}`,
        args: [{ amount: number }],
      })),
  );
  return count / ((performance.now() - startedAt) / 1000);
}
