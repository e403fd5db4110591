import { Socket } from "node:net";
import { setTimeout as pause } from "node:timers/promises";
import { Client, type QueryConfig } from "pg";

/** A connection that a deployer keeps for itself, and can always give up. */
export interface OwnConnection {
  client: Client;
  /** Resolves when the connection has ended, for whatever reason, or the signal aborts. */
  ended: Promise<void>;
  /** Closes it; where the other side does not answer, it is cut. */
  close(): Promise<void>;
}

const CONNECT_TIMEOUT_MS = 5000;
const CLOSE_TIMEOUT_MS = 1000;

/** @throws when it cannot be had; then nothing of it is left */
export async function openConnection(connectionString: string, signal: AbortSignal): Promise<OwnConnection> {
  const socket = new Socket();
  const client = new Client({
    connectionString,
    stream: () => socket,
    keepAlive: true,
    connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
  });
  const ended = untilEnded(client, signal);
  const close = async () => {
    // A connection whose other side has vanished would be waited for as long as TCP does.
    await Promise.race([client.end().catch(() => {}), pause(CLOSE_TIMEOUT_MS)]);
    socket.destroy();
  };
  try {
    await client.connect();
    return { client, ended, close };
  } catch (error) {
    await close();
    throw error;
  }
}

/** A query that is given up after `ms`; pg knows the option, its types do not. */
export function within(ms: number, text: string, values: unknown[]): QueryConfig & { query_timeout: number } {
  return { text, values, query_timeout: ms };
}

function untilEnded(client: Client, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    client.on("end", () => resolve());
    client.on("error", () => resolve());
    signal.addEventListener("abort", () => resolve(), { once: true });
  });
}
