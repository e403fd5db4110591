import { setTimeout as pause } from "node:timers/promises";
import { type BenchResult, createResult, median } from "../result.ts";
import type { RunningWorker, WorkerStand } from "./stand.ts";

const ROUNDS = 10;
/** What a worker allocates while it starts has come back, or not, by then. */
const SETTLE_MS = 2_000;

/** Start and memory of our worker beside the hand-written one: one after the other, each alone, in turns. */
export async function measureWorkerStart(stand: WorkerStand, write: (line: string) => void): Promise<BenchResult[]> {
  const measured = { ours: [] as Start[], "hand-written": [] as Start[] };
  // The first of each fills the caches of bundles and of compiled modules: a start that a machine has once.
  for (const kind of ["ours", "hand-written"] as const) await (await stand.start(kind, `warm_up_${kind[0]}`)).stop();
  for (let round = 1; round <= ROUNDS; round++) {
    const kinds = ["ours", "hand-written"] as const;
    for (const kind of round % 2 === 0 ? kinds.toReversed() : kinds) {
      const start = await measureOne(await stand.start(kind, `start_${kind.replace("-", "_")}_${round}`));
      measured[kind].push(start);
      write(
        `  ${kind} ${round}: polls after ${start.pollingMs.toFixed(0)} ms, holds ${start.residentMib.toFixed(0)} MiB`,
      );
    }
  }
  return [
    ratio("worker_start_to_polling", "ms", measured, ({ pollingMs }) => pollingMs),
    ratio("worker_resident_memory", "mib", measured, ({ residentMib }) => residentMib),
  ];
}

interface Start {
  pollingMs: number;
  residentMib: number;
}

async function measureOne(worker: RunningWorker): Promise<Start> {
  await pause(SETTLE_MS);
  const residentMib = worker.residentMib();
  await worker.stop();
  return { pollingMs: worker.pollingMs, residentMib };
}

function ratio(
  name: string,
  unit: string,
  measured: Record<"ours" | "hand-written", Start[]>,
  figure: (start: Start) => number,
): BenchResult {
  const ours = median(measured.ours.map(figure));
  const peer = median(measured["hand-written"].map(figure));
  return createResult({
    name,
    value: ours / peer,
    unit: "ratio",
    goal: 1.1,
    raw: { starts: ROUNDS, [`ours_p50_${unit}`]: ours, [`hand_written_p50_${unit}`]: peer },
  });
}
