import { setTimeout as pause } from "node:timers/promises";
import { NativeConnection, TransportError } from "@temporalio/worker";
import { describeError, EXIT_CODES, WorkerExitError } from "./exit.ts";
import { GRPC, grpcStatus } from "./grpc-status.ts";
import type { Log } from "./log.ts";
import type { TemporalTarget } from "./temporal-target.ts";
import { withTimeLimit } from "./time-limit.ts";

/** A server that accepts and never answers would hold the connect for ever. */
const ATTEMPT_MS = 10_000;
/** A young server answers before it knows its namespaces. */
const NAMESPACE_GRACE_MS = 10_000;

/** A connection to a Temporal that answers and has the namespace, and what is being made with it. */
export interface Connected<Made> {
  connection: NativeConnection;
  making: Promise<Made>;
}

/**
 * Connects, and begins what takes a while to make with the connection. Tries until the deadline.
 *
 * @param make begun while Temporal is still asked for the namespace, which spares a start 30 ms. Of one that fails the SDK leaves threads behind:
 *   after a failure it is called only once Temporal has answered
 * @throws {WorkerExitError} 69 past the deadline; 78 for what no further try can cure
 */
export async function connect<Made>(
  target: TemporalTarget,
  deadlineSeconds: number,
  log: Log,
  make: (connection: NativeConnection) => Promise<Made>,
): Promise<Connected<Made>> {
  const startedAt = Date.now();
  let held: Held<Made> | undefined;
  for (let attempt = 1;; attempt++) {
    try {
      if (held === undefined || held.isLost) {
        await held?.connection.close().catch(() => {}); // half-made Workers may hold it
        held = undefined;
        held = hold(await connectOnce(target), attempt === 1 ? make : undefined);
      }
      const { connection, making } = held;
      await askForNamespace(connection, target.namespace);
      return { connection, making: making ?? make(connection) };
    } catch (error) {
      const waitedMs = Date.now() - startedAt;
      const reason = describeError(error);
      const where = `Temporal at ${target.address}, namespace "${target.namespace}"`;
      if (!isTransient(error, waitedMs)) {
        const problem = `${where}, refuses: ${reason}. Correct the TEMPORAL_* variables`;
        throw new WorkerExitError(EXIT_CODES.unusable, [problem], { cause: error });
      }
      const retryInMs = backoffMs(attempt);
      if (waitedMs + retryInMs > deadlineSeconds * 1000) {
        const problem = `${where}, could not be reached within ${deadlineSeconds} s: ${reason}`;
        throw new WorkerExitError(EXIT_CODES.unreachable, [problem], { cause: error });
      }
      log.warn({ event: "worker.connect_failed", attempt, retry_in_ms: retryInMs, address: target.address, reason });
      await pause(retryInMs);
    }
  }
}

interface Held<Made> {
  connection: NativeConnection;
  making: Promise<Made> | undefined;
  /** The next try is on another connection. */
  isLost: boolean;
}

/** What is being made keeps its connection, until it fails itself. */
function hold<Made>(
  connection: NativeConnection,
  make: ((connection: NativeConnection) => Promise<Made>) | undefined,
): Held<Made> {
  const held = { connection, making: make?.(connection), isLost: make === undefined };
  held.making?.catch(() => held.isLost = true);
  return held;
}

async function connectOnce({ connectionOptions }: TemporalTarget): Promise<NativeConnection> {
  return await withTimeLimit(NativeConnection.connect(connectionOptions), ATTEMPT_MS, noAnswer);
}

async function askForNamespace(connection: NativeConnection, namespace: string): Promise<void> {
  const ask = () => connection.workflowService.describeNamespace({ namespace });
  await withTimeLimit(connection.withDeadline(Date.now() + ATTEMPT_MS, ask), ATTEMPT_MS, noAnswer);
}

function noAnswer(): Error {
  return new TransportError(`no answer within ${ATTEMPT_MS / 1000} s`);
}

function isTransient(error: unknown, waitedMs: number): boolean {
  const status = grpcStatus(error);
  if (status === GRPC.notFound) return waitedMs < NAMESPACE_GRACE_MS;
  if (status !== undefined) return status !== GRPC.permissionDenied && status !== GRPC.unauthenticated;
  return error instanceof TransportError && !REFUSED.test(describeError(error));
}

/**
 * Transport errors that no further try cures, known by their words alone: TLS spoken to a plaintext port, unreadable PEM,
 * certificates that one side does not take, and what the first call of a connection was refused with (an API key).
 */
const REFUSED = new RegExp(
  [
    "InvalidContentType|ParseError|InvalidCertificate",
    "fatal alert: (CertificateRequired|BadCertificate|UnknownCA|CertificateUnknown|CertificateExpired)",
    "does not have valid authentication credentials",
    "does not have permission to execute the specified operation",
  ].join("|"),
);

/** 1 s, doubling to 15 s; 20 % either way, so that a fleet does not knock in step. */
function backoffMs(attempt: number): number {
  return Math.round(Math.min(1_000 * 2 ** (attempt - 1), 15_000) * (0.8 + 0.4 * Math.random()));
}
