import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { z } from "zod";

const processesSchema = z.object({ children: z.record(z.string(), z.object({ pid: z.int() })) });

/** Process ids of a stack's programs by their names, as its state directory has them. */
export function programsOf(directory: string): Record<string, number> {
  const { children } = processesSchema.parse(JSON.parse(readFileSync(join(directory, "processes.json"), "utf8")));
  return Object.fromEntries(Object.entries(children).map(([name, { pid }]) => [name, pid]));
}

/** In MiB. */
export interface Memory {
  /** The most of each. */
  peaks: Record<string, number>;
  /** The most of all together at one moment. */
  peakOfAll: number;
}

/** What processes, each with all that it started, have held in memory while `work` ran. Linux only. */
export async function withPeakMemory<Result>(
  pids: Record<string, number>,
  work: () => Promise<Result>,
): Promise<{ result: Result } & Memory> {
  const peaks: Record<string, number> = {};
  let peakOfAll = 0;
  const over = new AbortController();
  const watching = (async () => {
    while (!over.signal.aborted) {
      const sizes = Object.entries(pids).map(([name, pid]) => [name, sizeOfTree(pid)] as const);
      for (const [name, size] of sizes) peaks[name] = Math.max(peaks[name] ?? 0, size);
      peakOfAll = Math.max(peakOfAll, sizes.reduce((sum, [, size]) => sum + size, 0));
      await pause(500, undefined, { signal: over.signal }).catch(() => {});
    }
  })();
  try {
    const result = await work();
    return { result, peaks, peakOfAll };
  } finally {
    over.abort();
    await watching;
  }
}

/** Memory that several processes share counts once: each has its share of it (PSS). */
function sizeOfTree(root: number): number {
  const parents = new Map(
    readdirSync("/proc").filter((name) => /^\d+$/.test(name)).map((pid) => [
      Number(pid),
      parentOf(Number(pid)),
    ]),
  );
  const isOurs = (pid: number | undefined): boolean => pid === root || (pid !== undefined && isOurs(parents.get(pid)));
  return [...parents.keys()].filter(isOurs).reduce((sum, pid) => sum + sizeOf(pid), 0);
}

function parentOf(pid: number): number | undefined {
  return numberIn(`/proc/${pid}/status`, /^PPid:\s+([1-9]\d*)/m);
}

function sizeOf(pid: number): number {
  return (numberIn(`/proc/${pid}/smaps_rollup`, /^Pss:\s+(\d+) kB/m) ?? 0) / 1024;
}

/** Undefined for a process that has ended. */
function numberIn(file: string, pattern: RegExp): number | undefined {
  try {
    const found = pattern.exec(readFileSync(file, "utf8"))?.[1];
    return found === undefined ? undefined : Number(found);
  } catch {
    return undefined;
  }
}
