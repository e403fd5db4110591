import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type ActivityLimits, resolvedOptionsSchema } from "../../supabase/functions/_shared/service-options.ts";
import { capacityOf, shareOut } from "../../worker/capacity.ts";

test("queues of single activities cost a little each", () => {
  expect(capacityOf(512, 1, 20)).toEqual({ cachedWorkflows: 65, workflowTasks: 16, activities: 16 });
});

test.each([
  [256, 1, { cachedWorkflows: 16, workflowTasks: 4, activities: 4 }],
  [512, 1, { cachedWorkflows: 80, workflowTasks: 20, activities: 20 }],
  [512, 4, { cachedWorkflows: 11, workflowTasks: 4, activities: 4 }],
  [2048, 1, { cachedWorkflows: 464, workflowTasks: 100, activities: 100 }],
  [128, 3, { cachedWorkflows: 10, workflowTasks: 4, activities: 4 }],
])("%i MB for %i queues", (limitMb, queues, capacity) => {
  expect(capacityOf(limitMb, queues)).toEqual(capacity);
});

describe("what one process may do", () => {
  const unlimited = resolvedOptionsSchema.parse({});
  const options = resolvedOptionsSchema.parse({
    max_concurrent_activities: 12,
    max_activities_per_second: 3,
    max_task_queue_activities_per_second: 5,
  });

  test("is shared out to its queues; what Temporal counts by queue is not", () => {
    const whole = { atOnce: 12, perSecond: 3, ofAllPerSecond: 5 };
    expect(shareOut(options, 20, 1, [])).toEqual({ main: whole, apart: [] });
    expect(shareOut(options, 20, 0, []).main).toEqual(whole);
    expect(shareOut(options, 20, 4, []).main).toEqual({ atOnce: 3, perSecond: 0.75, ofAllPerSecond: 5 });
    expect(shareOut(options, 20, 24, []).main).toMatchObject({ atOnce: 1 });
    const free = { atOnce: 20, perSecond: undefined, ofAllPerSecond: undefined };
    expect(shareOut(unlimited, 20, 4, []).main).toEqual(free);
  });

  const apartOf = (...limits: ActivityLimits[]) => limits.map((one) => ({ limits: one }));
  const sharesOf = (...given: Parameters<typeof shareOut>) => {
    const { main, apart } = shareOut(...given);
    return [main, ...apart.map(({ share }) => share)];
  };

  test("goes to an activity with limits of its own up to those, and to an equal part; what that leaves goes to the others", () => {
    const free = { perSecond: undefined, ofAllPerSecond: undefined };
    expect(sharesOf(options, 20, 1, apartOf({ max_concurrent: 2, max_per_second: 9, max_task_queue_per_second: 1 })))
      .toEqual([
        { atOnce: 10, perSecond: 1.5, ofAllPerSecond: 4 },
        { atOnce: 2, perSecond: 1.5, ofAllPerSecond: 1 },
      ]);
    expect(sharesOf(unlimited, 20, 1, apartOf({ max_concurrent: 50 }, { max_concurrent: 1 }))).toEqual([
      { atOnce: 10, ...free },
      { atOnce: 9, ...free },
      { atOnce: 1, ...free },
    ]);
    expect(sharesOf(unlimited, 20, 1, apartOf({ max_per_second: 0.5 }, { max_task_queue_per_second: 7 }))).toEqual([
      { atOnce: 8, ...free },
      { atOnce: 6, ...free, perSecond: 0.5 },
      { atOnce: 6, ...free, ofAllPerSecond: 7 },
    ]);
  });

  const limit = fc.integer({ min: 1, max: 1000 });
  const rate = fc.double({ min: 0.01, max: 100_000, noNaN: true });
  const limits = fc.record({ max_concurrent: limit, max_per_second: rate, max_task_queue_per_second: rate }, {
    requiredKeys: [],
  });
  test("is never exceeded, but that each may do one at once", () => {
    fc.assert(fc.property(limit, rate, fc.array(limits, { maxLength: 20 }), (atOnce, perSecond, apart) => {
      const given = resolvedOptionsSchema.parse({
        max_concurrent_activities: atOnce,
        max_activities_per_second: perSecond,
        max_task_queue_activities_per_second: perSecond,
      });
      const shares = sharesOf(given, 20, 1, apartOf(...apart));
      const sum = (values: (number | undefined)[]) =>
        values.reduce<number>((total, value) => total + (value ?? Infinity), 0);
      expect(sum(shares.map((share) => share.atOnce))).toBeLessThanOrEqual(Math.max(atOnce, shares.length));
      for (const  of of["perSecond", "ofAllPerSecond"] as const) {
        expect(sum(shares.map((share) => share[of]))).toBeCloseTo(perSecond, 5);
      }
      for (const { atOnce: own, perSecond: ofWorker = 0, ofAllPerSecond: ofAll = 0 } of shares) {
        expect(Number.isInteger(own) && own >= 1 && ofWorker > 0 && ofAll > 0).toBe(true);
      }
      for (const [index, { max_concurrent = Infinity, max_per_second = Infinity }] of apart.entries()) {
        expect(shares[index + 1]?.atOnce).toBeLessThanOrEqual(max_concurrent);
        expect(shares[index + 1]?.perSecond).toBeLessThanOrEqual(max_per_second);
      }
    }));
  });
});
