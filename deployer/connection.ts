import type { Client } from "pg";

/** Resolves when a connection has ended, for whatever reason, or the signal aborts. To be called before it connects. */
export function untilEnded(client: Client, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    client.on("end", resolve);
    client.on("error", () => resolve());
    signal.addEventListener("abort", () => resolve(), { once: true });
  });
}
