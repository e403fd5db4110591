/** A figure of the benchmark, as `--json` prints it. */
export interface BenchResult {
  name: string;
  value: number;
  /** `ratio`: against the peer or the floor of the same run that `raw` shows. */
  unit: "ms" | "s" | "MiB" | "ratio" | "count";
  /** What `value` is to come to; null: for information. */
  goal: number | null;
  /** Whether `value` may be at most the goal, or must be at least. */
  bound: "at most" | "at least";
  /** Null without a goal. */
  met: boolean | null;
  /** What `value` was made of. Milliseconds where the name ends so. */
  raw: Record<string, number | number[] | null>;
}

/** Judged before it is rounded: 2.2004 misses a goal of 2.2, however it is printed. */
export function createResult(figure: Omit<BenchResult, "met" | "bound"> & Partial<BenchResult>): BenchResult {
  const { name, value, unit, goal, bound = "at most", raw } = figure;
  return {
    name,
    value: rounded(value),
    unit,
    goal,
    bound,
    met: goal === null ? null : bound === "at most" ? value <= goal : value >= goal,
    raw: Object.fromEntries(
      Object.entries(raw).map(([key, part]) => [key, Array.isArray(part) ? part.map(rounded) : rounded(part)]),
    ),
  };
}

/** The mean of the two in the middle when their number is even. */
export function median(values: number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const upper = sorted[Math.floor(sorted.length / 2)];
  const lower = sorted[Math.floor((sorted.length - 1) / 2)];
  if (upper === undefined || lower === undefined) throw new Error("Cannot take the median of no values");
  return (lower + upper) / 2;
}

function rounded<Value extends number | null>(value: Value): Value | number {
  return value === null ? value : Math.round(value * 1000) / 1000;
}
