import type { ServerResponse } from "node:http";
import { type BenchResult, createResult } from "../result.ts";
import type { WorkerStand } from "./stand.ts";

const DRAINS = 200;
const AT_A_TIME = 8;
const ACTIVITIES = 3;
/** The endpoint answers so long after the signal, or sooner. */
const LONGEST_MS = 2_000;

/** Workers that are told to end while their activities are in flight: how many of those are cut off? */
export async function measureDrains(stand: WorkerStand, write: (line: string) => void): Promise<BenchResult> {
  let drained = 0;
  let cutOff = 0;
  let unclean = 0;
  while (drained < DRAINS) {
    const outcomes = await drainTogether(stand, Array.from({ length: AT_A_TIME }, (_, number) => drained + number));
    drained += outcomes.length;
    cutOff += outcomes.reduce((sum, outcome) => sum + outcome.cutOff, 0);
    unclean += outcomes.filter(({ exitCode }) => exitCode !== 0).length;
    if (drained % 40 === 0) write(`  ${drained} drains: ${cutOff} activities cut off`);
  }
  return createResult({
    name: "drains_cut_off",
    value: cutOff,
    unit: "count",
    goal: 0,
    raw: { drains: drained, at_a_time: AT_A_TIME, activities_in_flight: drained * ACTIVITIES, exits_not_0: unclean },
  });
}

/** The endpoint is all workers': a round's activities are in flight on all of them before any is told. */
async function drainTogether(
  stand: WorkerStand,
  numbers: number[],
): Promise<{ cutOff: number; exitCode: number | null }[]> {
  const inFlight: ServerResponse[] = [];
  const { promise: allInFlight, resolve } = Promise.withResolvers<void>();
  stand.respond((response) => {
    inFlight.push(response);
    if (inFlight.length === numbers.length * ACTIVITIES) resolve();
  });
  const workers = await Promise.all(numbers.map((number) => stand.start("ours", `drain_${number}`)));
  const handles = await Promise.all(
    workers.map(({ taskQueue }) =>
      Promise.all(
        Array.from({ length: ACTIVITIES }, (_, number) =>
          stand.client.workflow.start("bill", { taskQueue, workflowId: `${taskQueue}-${number}` })),
      )
    ),
  );
  await allInFlight;

  const exits = Promise.all(workers.map((worker) => worker.stop()));
  for (const response of inFlight) setTimeout(() => response.end("{}"), Math.random() * LONGEST_MS);
  const exitCodes = await exits;

  return await Promise.all(handles.map(async (ofWorker, index) => {
    const ends = await Promise.all(ofWorker.map(async (handle) => {
      const { events } = await handle.fetchHistory();
      await handle.terminate();
      return events?.some(({ activityTaskCompletedEventAttributes: completed }) => completed) ?? false;
    }));
    return { cutOff: ends.filter((isCompleted) => !isCompleted).length, exitCode: exitCodes[index] ?? null };
  }));
}
