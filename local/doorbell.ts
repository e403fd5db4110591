// The worker of the stand-in for pg_net (doorbell/net.sql): sends the HTTP requests that SQL has queued.
import { setTimeout as pause } from "node:timers/promises";
import pg from "pg";
import { z } from "zod";
import { type Faults, runPass } from "./doorbell/pass.ts";
import { type Answer, type Delivery, send, unreached } from "./doorbell/send.ts";
import { databaseUrlSchema, type Log, runProgram } from "./program.ts";

/** pg_net's rest after a pass. */
const REST_MS = 1000;
const RECONNECT_MS = 100;
const RECONNECT_CAP_MS = 2000;
/** How long a pass may go on that is under way when we are to stop; then its requests stay in the queue. */
const STOP_GRACE_MS = 3000;

await runProgram("doorbell", z.object({ DB_URL: databaseUrlSchema }), async ({ DB_URL }, log) => {
  const stopping = new AbortController();
  const { promise: listening, resolve: onListening } = Promise.withResolvers<void>();
  const ended = workUntil(stopping.signal, DB_URL, onListening, log);
  await Promise.race([listening, ended]);
  return {
    port: 0,
    async stop() {
      stopping.abort();
      await ended;
    },
  };
});

/** One connection after another: Postgres may restart, and the tables may not be there yet. */
async function workUntil(signal: AbortSignal, url: string, onListening: () => void, log: Log): Promise<void> {
  let failures = 0;
  while (!signal.aborted) {
    try {
      await serveQueue(signal, url, () => {
        onListening();
        if (failures > 0) log.info({ event: "doorbell.recovered", failures });
        failures = 0;
      });
    } catch (error) {
      failures++;
      if (failures === 1) log.warn({ event: "doorbell.lost_database", reason: String(Object(error).message ?? error) });
      await pause(Math.min(RECONNECT_MS * 2 ** failures, RECONNECT_CAP_MS), undefined, { signal }).catch(() => {});
    }
  }
}

/** Serves the queue until the signal, or until SQL asks for a restart; throws when the connection is lost. */
async function serveQueue(signal: AbortSignal, url: string, onListening: () => void): Promise<void> {
  const client = new pg.Client({
    connectionString: url,
    application_name: "pg_net stand-in",
    connectionTimeoutMillis: 5000,
  });
  const wake = createWake();
  const { promise: over, resolve: end, reject: fail } = Promise.withResolvers<"over">();
  const gone = new AbortController();
  over.catch(() => gone.abort()); // what has not gone out yet is lost with the connection
  client.on("error", fail);
  client.on("end", () => fail(new Error("the connection has ended")));
  client.on("notification", ({ channel }) => (channel === "pg_net_restart" ? end("over") : wake.ring()));
  signal.addEventListener("abort", () => end("over"), { once: true });
  try {
    await client.connect();
    await client.query("listen pg_net_wake; listen pg_net_restart");
    onListening();
    wake.ring(); // what was queued while nobody listened
    const pass = () => runPass(client, (delivery, faults) => deliver(delivery, faults, gone.signal));
    while (await Promise.race([over, wake.rung()]) !== "over") await drain(pass, wake, over);
  } finally {
    await client.end().catch(() => {});
  }
}

/**
 * Passes until one finds nothing. Between two the worker rests for a second: the first commit ends the rest, further
 * ones wait it out, because pg_net leaves its flag set by then. A burst is so late by half a second, as it is there.
 */
async function drain(pass: () => Promise<number>, wake: Wake, over: Promise<"over">): Promise<void> {
  let isWakeable = true;
  for (;;) {
    wake.clear();
    if (await Promise.race([pass(), over.then(() => pause(STOP_GRACE_MS, 0))]) === 0) return;
    const rest = new AbortController();
    const rested = pause(REST_MS, "rested" as const, { signal: rest.signal }).catch(() => "rested" as const);
    const ended = await Promise.race([over, rested, ...(isWakeable ? [wake.rung()] : [])]);
    rest.abort();
    if (ended === "over") return;
    if (ended === "rung") isWakeable = false;
  }
}

interface Wake {
  ring(): void;
  /** Resolves at once when it has rung since it was cleared. */
  rung(): Promise<"rung">;
  clear(): void;
}

function createWake(): Wake {
  let current = Promise.withResolvers<"rung">();
  return {
    ring: () => current.resolve("rung"),
    rung: () => current.promise,
    clear: () => void (current = Promise.withResolvers<"rung">()),
  };
}

async function deliver(delivery: Delivery, faults: Faults | undefined, gone: AbortSignal): Promise<Answer> {
  if (faults === undefined) return await send(delivery);
  if (faults.delay_ms > 0) await pause(faults.delay_ms, undefined, { signal: gone });
  if (faults.is_refusing) return unreached(delivery.id, "Couldn't connect to server");
  const [answer] = await Promise.all([
    send(delivery, faults.hold_ms),
    ...(faults.deliver_twice ? [send(delivery, faults.hold_ms)] : []),
  ]);
  return answer;
}
