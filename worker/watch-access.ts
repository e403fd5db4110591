import { setTimeout as pause } from "node:timers/promises";
import type { NativeConnection } from "@temporalio/worker";
import { describeError, EXIT_CODES, WorkerExitError } from "./exit.ts";
import { GRPC, grpcStatus } from "./grpc-status.ts";

const ASK_EVERY_MS = 20_000;
/** One refusal may be a server that is just starting; three in a row are none. */
const REFUSALS = 3;
const REFUSED = new Set<number | undefined>([GRPC.notFound, GRPC.permissionDenied, GRPC.unauthenticated]);

/**
 * Rejects once Temporal answers, but no longer to this worker: an expired API key, a namespace that is gone.
 *
 * With autoscaling pollers a Worker stays RUNNING then (measured on 1.24.0: 200 s and more after its namespace was
 * deleted; with a fixed number it is FAILED after 107 s), a live process that polls nothing. An outage is no refusal:
 * the SDK waits for its end.
 */
export async function watchAccess(connection: NativeConnection, namespace: string): Promise<never> {
  for (let refusals = 0;;) {
    await pause(ASK_EVERY_MS, undefined, { ref: false });
    try {
      const ask = () => connection.workflowService.describeNamespace({ namespace });
      await connection.withDeadline(Date.now() + ASK_EVERY_MS, ask);
      refusals = 0;
    } catch (error) {
      refusals = REFUSED.has(grpcStatus(error)) ? refusals + 1 : 0;
      if (refusals < REFUSALS) continue;
      const problem = `Temporal refuses this worker: ${describeError(error)}. Correct the TEMPORAL_* variables`;
      throw new WorkerExitError(EXIT_CODES.fatal, [problem], { cause: error });
    }
  }
}
