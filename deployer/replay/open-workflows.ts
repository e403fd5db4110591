import { Client, type WorkflowExecutionInfo } from "@temporalio/client";
import proto from "@temporalio/proto";
import type { TemporalService } from "../readiness/temporal-service.ts";

/** Of the newest, in all types: what one service has open may be a million. */
const MOST_LISTED = 2000;
/** Histories beyond are left out: Temporal itself warns at 10 MB. */
const MOST_HISTORY_BYTES = 16 * 1024 ** 2;

/** A workflow that runs, and is to go on under another revision. */
export interface OpenWorkflow {
  workflowId: string;
  runId: string;
  type: string;
  taskQueue: string;
}

/**
 * Open workflows of a task queue, the newest of each type.
 *
 * @param types those that are asked for by name, so that they are found behind any number of others
 * @param mostOfType how many of each type
 */
export async function listOpenWorkflows(
  temporal: TemporalService,
  taskQueue: string,
  types: string[],
  mostOfType: number,
): Promise<{ workflows: OpenWorkflow[]; tooLarge: string[] }> {
  const onQueue = `TaskQueue = ${quoted(taskQueue)} AND ExecutionStatus = "Running"`;
  const others = types.length === 0 ? "" : ` AND WorkflowType NOT IN (${types.map(quoted).join(", ")})`;
  const lists = [
    ...types.map((type) => ({ query: `${onQueue} AND WorkflowType = ${quoted(type)}`, most: mostOfType })),
    { query: `${onQueue}${others}`, most: MOST_LISTED },
  ];
  const found: WorkflowExecutionInfo[] = [];
  for (const { query, most } of lists) found.push(...await list(temporal, query, most));
  const isTooLarge = ({ historySize = 0 }: WorkflowExecutionInfo) => historySize > MOST_HISTORY_BYTES;
  const ofType = Map.groupBy(found.filter((workflow) => !isTooLarge(workflow)), ({ type }) => type);
  const workflows = [...ofType.values()].flatMap((newest) => newest.slice(0, mostOfType)).map(
    ({ workflowId, runId, type }) => ({ workflowId, runId, type, taskQueue }),
  );
  return { workflows, tooLarge: found.filter(isTooLarge).map(({ workflowId }) => workflowId) };
}

/** Temporal lists the newest first. */
async function list(temporal: TemporalService, query: string, most: number): Promise<WorkflowExecutionInfo[]> {
  const client = new Client({ connection: temporal.connection, namespace: temporal.namespace });
  return await temporal.ask(async () => {
    const newest: WorkflowExecutionInfo[] = [];
    for await (const workflow of client.workflow.list({ query, pageSize: Math.min(most, 1000) })) {
      if (newest.push(workflow) >= most) break;
    }
    return newest;
  });
}

/** A workflow's history so far, as protobuf has it: temporal.api.history.v1.History. */
export async function fetchHistory(
  temporal: TemporalService,
  { workflowId, runId }: OpenWorkflow,
): Promise<Uint8Array> {
  const client = new Client({ connection: temporal.connection, namespace: temporal.namespace });
  const history = await temporal.ask(() => client.workflow.getHandle(workflowId, runId).fetchHistory());
  return proto.temporal.api.history.v1.History.encode(history).finish();
}

function quoted(text: string): string {
  return `"${text.replaceAll("\\", "\\\\").replaceAll('"', '\\"')}"`;
}
