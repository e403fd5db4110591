import proto from "@temporalio/proto";
import type { TemporalService } from "../readiness/temporal-service.ts";

/** Of the newest, of all types: what one service has open may be a million. */
const MOST_LISTED = 2000;
const PAGE_SIZE = 500;
/** Histories beyond are left out: Temporal itself warns at 10 MB. */
const MOST_HISTORY_BYTES = 16 * 1024 ** 2;
const MOST_HISTORY_PAGES = 200;

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
): Promise<OpenWorkflow[]> {
  const onQueue = `TaskQueue = ${quoted(taskQueue)} AND ExecutionStatus = "Running"`;
  const others = types.length === 0 ? "" : ` AND WorkflowType NOT IN (${types.map(quoted).join(", ")})`;
  const found: OpenWorkflow[] = [];
  for (const type of types) {
    found.push(...await list(temporal, `${onQueue} AND WorkflowType = ${quoted(type)}`, mostOfType));
  }
  found.push(...await list(temporal, `${onQueue}${others}`, MOST_LISTED));
  return [...Map.groupBy(found, ({ type }) => type).values()].flatMap((newest) => newest.slice(0, mostOfType));
}

/** Temporal lists the newest first. */
async function list(temporal: TemporalService, query: string, most: number): Promise<OpenWorkflow[]> {
  const { connection, namespace } = temporal;
  const newest: OpenWorkflow[] = [];
  let nextPageToken: Uint8Array = new Uint8Array();
  while (newest.length < most) {
    const request = { namespace, query, pageSize: Math.min(most, PAGE_SIZE), nextPageToken };
    const answer = await temporal.ask(() => connection.workflowService.listWorkflowExecutions(request));
    for (const { execution, type, taskQueue } of answer.executions ?? []) {
      if (!execution?.workflowId || !execution.runId || !type?.name) continue;
      newest.push({
        workflowId: execution.workflowId,
        runId: execution.runId,
        type: type.name,
        taskQueue: taskQueue ?? "",
      });
    }
    nextPageToken = answer.nextPageToken ?? new Uint8Array();
    if (nextPageToken.length === 0) break;
  }
  return newest.slice(0, most);
}

/** A workflow's history so far. */
export interface OpenHistory {
  /** As protobuf has it: temporal.api.history.v1.History. */
  bytes: Uint8Array;
  /** A worker has run something of it: before that no code can fail to fit. */
  hasBegun: boolean;
  /** Its last task failed, under the code that it has: it goes on under none, or under a better one. */
  isStuck: boolean;
  /** The built-in workflow wrote it, with which it goes on under any revision. */
  isBuiltIn: boolean;
}

/** @returns why it is left out, where it is none that can be replayed */
export async function fetchHistory(
  temporal: TemporalService,
  { workflowId, runId }: OpenWorkflow,
): Promise<OpenHistory | "gone" | "too large"> {
  const { connection, namespace } = temporal;
  const { History } = proto.temporal.api.history.v1;
  const pages: Uint8Array[] = [];
  const facts = { hasBegun: false, isStuck: false, isBuiltIn: false };
  let size = 0;
  let nextPageToken: Uint8Array = new Uint8Array();
  for (let page = 1; page <= MOST_HISTORY_PAGES; page++) {
    const request = { namespace, execution: { workflowId, runId }, maximumPageSize: PAGE_SIZE, nextPageToken };
    let answer;
    try {
      answer = await temporal.ask(() => connection.workflowService.getWorkflowExecutionHistory(request));
    } catch (error) {
      if (Object(error).code === NOT_FOUND) return "gone"; // it ended meanwhile, and was removed
      throw error;
    }
    const events = answer.history?.events ?? [];
    for (const event of events) {
      if (event.workflowTaskCompletedEventAttributes) Object.assign(facts, { hasBegun: true, isStuck: false });
      if (event.workflowTaskFailedEventAttributes) facts.isStuck = true;
      if (isPlan(event)) facts.isBuiltIn = true;
    }
    // Messages one after the other are one message: so protobuf has repeated fields.
    const bytes = History.encode({ events }).finish();
    pages.push(bytes);
    size += bytes.length;
    if (size > MOST_HISTORY_BYTES) return "too large";
    nextPageToken = answer.nextPageToken ?? new Uint8Array();
    if (nextPageToken.length === 0) return { bytes: Buffer.concat(pages), ...facts };
  }
  return "too large";
}

const NOT_FOUND = 5; // grpc.github.io/grpc/core/md_doc_statuscodes.html

/** What the built-in workflow does first (worker/service/workflows.ts): the local activity that records its steps. */
function isPlan({ markerRecordedEventAttributes: marker }: proto.temporal.api.history.v1.IHistoryEvent): boolean {
  return (marker?.details?.["data"]?.payloads ?? []).some(({ data }) =>
    Buffer.from(data ?? []).includes(`"__osp_plan"`)
  );
}

function quoted(text: string): string {
  return `"${text.replaceAll("\\", "\\\\").replaceAll('"', '\\"')}"`;
}
