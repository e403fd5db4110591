import { Client, Connection, WorkflowFailedError, WorkflowNotFoundError } from "@temporalio/client";
import { taskQueueOf } from "../../supabase/functions/_shared/manifest.ts";
import { formatError } from "../../supabase/functions/_shared/problems.ts";
import { type Call, resultSchema } from "./endpoint.ts";
import { REFUSED_ACTIVITY, STEPS, WORKFLOW } from "./model.ts";

/** A workflow that Temporal has taken. */
export interface StartedWorkflow {
  id: string;
  service: string;
  startedAt: number;
}

/** How it ended. */
type Ending = { steps: string[] } | { failure: string } | { isLost: true };

/** The workflows of a storm. */
export interface Workflows {
  /** False: Temporal did not take it, it is away. */
  start(service: string, number: number): Promise<boolean>;
  started(): readonly StartedWorkflow[];
  /** Waits for all of these services, and says what is wrong with their ends, a line each. */
  judge(services: Set<string>, lostAt: number | undefined, calls: () => Call[], signal: AbortSignal): Promise<string[]>;
  close(): Promise<void>;
}

const START_MS = 3000;
const END_SECONDS = 150;

export function createWorkflows(address: string): Workflows {
  const connection = Connection.lazy({ address });
  const client = new Client({ connection });
  const started: StartedWorkflow[] = [];

  async function endOf(workflow: StartedWorkflow): Promise<Ending> {
    try {
      const result: unknown = await client.workflow.getHandle(workflow.id).result();
      return { steps: resultSchema.parse(result).steps };
    } catch (error) {
      if (error instanceof WorkflowNotFoundError) return { isLost: true };
      if (error instanceof WorkflowFailedError) return { failure: formatError(error.cause) };
      throw error;
    }
  }

  async function judgeOne(
    workflow: StartedWorkflow,
    lostAt: number | undefined,
    calls: () => Call[],
  ): Promise<string[]> {
    const ending = await endOf(workflow).catch((error: unknown) => ({ unknown: formatError(error) }));
    const complain = (what: string) => [`Workflow ${workflow.id} ${what}`];
    if ("unknown" in ending) return complain(`did not end within ${END_SECONDS} s: ${ending.unknown}`);
    if ("isLost" in ending) {
      return lostAt !== undefined && workflow.startedAt < lostAt ? [] : complain("is not known to Temporal any more");
    }
    const called = calls().filter(({ workflowId }) => workflowId === workflow.id).map(({ activity }) => activity);
    if ("failure" in ending) {
      return called.includes(REFUSED_ACTIVITY) ? [] : complain(`failed, and nobody refused it: ${ending.failure}`);
    }
    const isPlanned = STEPS.some((steps) => steps.join() === ending.steps.join());
    if (!isPlanned) return complain(`took steps that no row ever had: ${ending.steps.join(", ")}`);
    // Each by one key: an activity that is tried again brings the same.
    return called.toSorted().join() === ending.steps.toSorted().join()
      ? []
      : complain(`took the steps ${ending.steps.join(", ")}, and its endpoint was called for ${called.join(", ")}`);
  }

  return {
    async start(service, number) {
      const id = `${service}-${number}`;
      try {
        await connection.withDeadline(Date.now() + START_MS, () =>
          client.workflow.start(WORKFLOW, {
            taskQueue: taskQueueOf(service),
            workflowId: id,
            args: [{ number }],
          }));
        started.push({ id, service, startedAt: Date.now() });
        return true;
      } catch {
        return false; // perhaps it runs all the same; nobody was promised anything
      }
    },
    started: () => started,
    async judge(services, lostAt, calls, signal) {
      const theirs = started.filter(({ service }) => services.has(service));
      const deadline = AbortSignal.any([signal, AbortSignal.timeout(END_SECONDS * 1000)]);
      const judged = await connection.withAbortSignal(
        deadline,
        () => Promise.all(theirs.map((workflow) => judgeOne(workflow, lostAt, calls))),
      );
      return judged.flat();
    },
    close: () => connection.close(),
  };
}
