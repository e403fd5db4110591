import { expect, test } from "vitest";
import { resolvedOptionsSchema } from "../../supabase/functions/_shared/service-options.ts";
import { capacityOf, optionsOfQueue } from "../../worker/capacity.ts";

test.each([
  [256, 1, { cachedWorkflows: 16, workflowTasks: 4, activities: 4 }],
  [512, 1, { cachedWorkflows: 80, workflowTasks: 20, activities: 20 }],
  [512, 4, { cachedWorkflows: 11, workflowTasks: 4, activities: 4 }],
  [2048, 1, { cachedWorkflows: 464, workflowTasks: 100, activities: 100 }],
  [128, 3, { cachedWorkflows: 10, workflowTasks: 4, activities: 4 }],
])("%i MB for %i queues", (limitMb, queues, capacity) => {
  expect(capacityOf(limitMb, queues)).toEqual(capacity);
});

test("what one process may do is shared out to its queues; what Temporal counts by queue is not", () => {
  const given = {
    max_concurrent_activities: 10,
    max_activities_per_second: 3,
    max_task_queue_activities_per_second: 5,
  };
  const options = resolvedOptionsSchema.parse(given);
  expect(optionsOfQueue(options, 1)).toEqual(options);
  expect(optionsOfQueue(options, 0)).toEqual(options);
  expect(optionsOfQueue(options, 4)).toEqual({
    ...options,
    max_concurrent_activities: 2,
    max_activities_per_second: 0.75,
  });
  expect(optionsOfQueue(options, 20)).toMatchObject({ max_concurrent_activities: 1 });
  const unlimited = resolvedOptionsSchema.parse({});
  expect(optionsOfQueue(unlimited, 4)).toEqual(unlimited);
});
