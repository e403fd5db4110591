import type { WorkflowOutboundCallsInterceptor } from "@temporalio/workflow";

const SOURCE_MAP = "\n//# sourceMappingURL=data:";

/**
 * A bundle whose workflows schedule some activities on task queues of those, whatever code it has: the queue of a scheduled activity
 * decides nothing in a replay, so that running workflows go on with or without it.
 *
 * Put into the code, for the SDK takes interceptors of workflows only when it bundles them, and what is pushed is bundled once. It stands on
 * the SDK's internals (`__TEMPORAL__`), as does the bundle: the version is pinned.
 *
 * @param code with the source map at its end, as the SDK makes it
 * @param taskQueue of the workflows: what they schedule elsewhere themselves stays there
 * @param queues by the name of the activity
 */
export function scheduleApart(code: string, taskQueue: string, queues: ReadonlyMap<string, string>): string {
  const end = code.lastIndexOf(SOURCE_MAP);
  if (end === -1) throw new Error("the workflow bundle has no source map at its end");
  const given = JSON.stringify([taskQueue, [...queues]]);
  return `${code.slice(0, end)}\n(${installInSandbox.toString()})(...${given});${code.slice(end)}`;
}

// oxlint-disable-next-line no-underscore-dangle -- the SDK's name for what a bundle exports
declare let __TEMPORAL__: { importInterceptors: () => object[] };

/** Runs in the sandbox of the workflows, as text: it can see nothing of this module. Before any workflow, so no replay misses it. */
function installInSandbox(taskQueue: string, entries: [string, string][]): void {
  const queues = new Map(entries);
  const { importInterceptors } = __TEMPORAL__;
  const scheduleActivity: WorkflowOutboundCallsInterceptor["scheduleActivity"] = (input, next) => {
    const queue = queues.get(input.activityType);
    const isElsewhere = (input.options.taskQueue ?? taskQueue) !== taskQueue;
    return next(
      queue === undefined || isElsewhere ? input : { ...input, options: { ...input.options, taskQueue: queue } },
    );
  };
  // Last, so that it sees what interceptors of the service's own have made of it.
  const interceptors = () => ({ outbound: [{ scheduleActivity }] });
  __TEMPORAL__ = { ...__TEMPORAL__, importInterceptors: () => [...importInterceptors(), { interceptors }] };
}
