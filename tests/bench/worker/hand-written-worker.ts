// The peer: a worker that somebody wrote for one service, with its bundle made beforehand. Sized as ours is in 512 MB, and
// with its grace, so that what differs is what ours does for its users. Its activities post to the same endpoint.
import { NativeConnection, Runtime, Worker } from "@temporalio/worker";

const { TEMPORAL_ADDRESS = "", BUNDLE_PATH = "", TASK_QUEUE = "", ACTIVITY_ENDPOINT = "" } = process.env;

async function post(activity: string, input: unknown): Promise<unknown> {
  const response = await fetch(`${ACTIVITY_ENDPOINT}/${activity}`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ input }),
  });
  if (!response.ok) throw new Error(`${activity} answered ${response.status}`);
  return await response.json();
}

Runtime.install({ workerHeartbeatInterval: "5s" });
const pollers = { type: "autoscaling", minimum: 1, initial: 2, maximum: 10 } as const;
const worker = await Worker.create({
  connection: await NativeConnection.connect({ address: TEMPORAL_ADDRESS }),
  taskQueue: TASK_QUEUE,
  workflowBundle: { codePath: BUNDLE_PATH },
  activities: {
    charge: (input: unknown) => post("charge", input),
    book: (input: unknown) => post("book", input),
  },
  shutdownGraceTime: "30s",
  maxCachedWorkflows: 80,
  maxConcurrentWorkflowTaskExecutions: 20,
  maxConcurrentActivityTaskExecutions: 20,
  workflowTaskPollerBehavior: pollers,
  activityTaskPollerBehavior: pollers,
});
await worker.run();
process.exit(0);
