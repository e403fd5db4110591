import { describe, expect, test } from "vitest";
import { resolvedOptionsSchema } from "../../supabase/functions/_shared/service-options.ts";
import { capacityOf, shareOut } from "../../worker/capacity.ts";

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

  test("goes to an activity with limits of its own up to those, and never all of it; the rest is for all others", () => {
    expect(shareOut(options, 20, 1, [{ max_concurrent: 2, max_per_second: 9, max_task_queue_per_second: 1 }])).toEqual({
      main: { atOnce: 10, perSecond: 1.5, ofAllPerSecond: 5 },
      apart: [{ atOnce: 2, perSecond: 1.5, ofAllPerSecond: 1 }],
    });
    expect(shareOut(unlimited, 20, 1, [{ max_concurrent: 100 }, { max_per_second: 0.5 }])).toEqual({
      main: { atOnce: 8, perSecond: undefined, ofAllPerSecond: undefined },
      apart: [
        { atOnce: 6, perSecond: undefined, ofAllPerSecond: undefined },
        { atOnce: 6, perSecond: 0.5, ofAllPerSecond: undefined },
      ],
    });
    const many = shareOut(unlimited, 4, 1, Array.from({ length: 9 }, () => ({ max_concurrent: 3 })));
    expect([many.main, ...many.apart].map(({ atOnce }) => atOnce)).toEqual(Array.from({ length: 10 }, () => 1));
  });

  test("is not taken away by what only left-overs wait on", () => {
    const { main, apart } = shareOut(unlimited, 20, 1, [undefined, { max_concurrent: 4 }]);
    expect([main.atOnce, ...apart.map(({ atOnce }) => atOnce)]).toEqual([16, 5, 4]);
  });
});
