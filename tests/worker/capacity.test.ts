import { expect, test } from "vitest";
import { capacityOf } from "../../worker/capacity.ts";

test.each([
  [256, 1, { cachedWorkflows: 16, workflowTasks: 4, activities: 4 }],
  [512, 1, { cachedWorkflows: 80, workflowTasks: 20, activities: 20 }],
  [512, 4, { cachedWorkflows: 11, workflowTasks: 4, activities: 4 }],
  [2048, 1, { cachedWorkflows: 464, workflowTasks: 100, activities: 100 }],
  [128, 3, { cachedWorkflows: 10, workflowTasks: 4, activities: 4 }],
])("%i MB for %i queues", (limitMb, queues, capacity) => {
  expect(capacityOf(limitMb, queues)).toEqual(capacity);
});
