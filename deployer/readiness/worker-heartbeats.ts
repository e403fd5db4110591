import { setTimeout as pause } from "node:timers/promises";
import { parseWorkerIdentity, type WorkerIdentity } from "../../supabase/functions/_shared/worker-identity.ts";
import type { TemporalService } from "./temporal-service.ts";

/** Workers send one every 5 s, and one that was just lost is not told from one that was just sent. */
const BETWEEN_LOOKS_MS = 11_000;
const PAGE_SIZE = 1000;
/** A million workers; a server that never comes to an end is not followed. */
const MOST_PAGES = 1000;

/**
 * Our workers that live, by their heartbeats: those whose newest one is newer at a second look. A worker that was killed
 * stays listed as running for 5 minutes, and whether its time is long ago could only be told if all clocks agreed.
 *
 * @returns undefined where the server keeps no heartbeats (before 1.29.1, or turned off)
 */
export async function listLivingWorkers(
  temporal: TemporalService,
  signal: AbortSignal,
  betweenLooksMs = BETWEEN_LOOKS_MS,
): Promise<WorkerIdentity[] | undefined> {
  const { connection, namespace } = temporal;
  const described = await temporal.ask(() => connection.workflowService.describeNamespace({ namespace }));
  if (described.namespaceInfo?.capabilities?.workerHeartbeats !== true) return undefined;
  const before = await readHeartbeats(temporal, signal);
  await pause(betweenLooksMs, undefined, { signal });
  const after = await readHeartbeats(temporal, signal);
  return [...after].flatMap(([instance, { identity, sentAt }]) => {
    const earlier = before.get(instance);
    return earlier === undefined || sentAt > earlier.sentAt ? identity : [];
  });
}

interface Heartbeat {
  identity: WorkerIdentity;
  /** Nanoseconds, by the worker's clock. */
  sentAt: bigint;
}

/** The newest of each Worker, by the key that it gives itself. */
async function readHeartbeats(temporal: TemporalService, signal: AbortSignal): Promise<Map<string, Heartbeat>> {
  const { connection, namespace } = temporal;
  const heartbeats = new Map<string, Heartbeat>();
  let nextPageToken: Uint8Array = new Uint8Array();
  for (let page = 1; page <= MOST_PAGES; page++) {
    signal.throwIfAborted();
    // A query with a name or a value that the server does not know finds nothing, without an error: all are read instead.
    const request = { namespace, pageSize: PAGE_SIZE, nextPageToken };
    const answer = await temporal.ask(() => connection.workflowService.listWorkers(request));
    for (const { workerHeartbeat } of answer.workersInfo ?? []) {
      const { workerInstanceKey, workerIdentity, heartbeatTime, status } = workerHeartbeat ?? {};
      const identity = parseWorkerIdentity(workerIdentity ?? "");
      if (!workerInstanceKey || identity === undefined || Number(status) !== RUNNING) continue;
      heartbeats.set(workerInstanceKey, { identity, sentAt: nanoseconds(heartbeatTime) });
    }
    if (answer.nextPageToken === undefined || answer.nextPageToken.length === 0) break;
    nextPageToken = answer.nextPageToken;
  }
  return heartbeats;
}

const RUNNING = 1; // temporal.api.enums.v1.WorkerStatus

type Timestamp = { seconds?: { toString(): string } | null; nanos?: number | null } | null | undefined;

function nanoseconds(time: Timestamp): bigint {
  return BigInt(time?.seconds?.toString() ?? 0) * 1_000_000_000n + BigInt(time?.nanos ?? 0);
}
