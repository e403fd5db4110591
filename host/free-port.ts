import { randomInt } from "node:crypto";
import { createServer } from "node:net";

/** Below what systems give to outgoing connections (Linux: from 32768): no client takes one before its server listens. */
const [LOWEST, ABOVE] = [15_000, 32_000];
const MOST_TRIES = 100;

/** A TCP port of 127.0.0.1 that nobody listens on at this moment. */
export async function freePort(): Promise<number> {
  for (let tries = 0; tries < MOST_TRIES; tries++) {
    const port = await tryPort(randomInt(LOWEST, ABOVE));
    if (port !== undefined) return port;
  }
  throw new Error("Cannot find a free port on 127.0.0.1");
}

/** The port itself; undefined where somebody listens on it already. */
export async function tryPort(port: number): Promise<number | undefined> {
  const server = createServer();
  try {
    await new Promise<void>((resolve, reject) => server.once("error", reject).listen(port, "127.0.0.1", resolve));
    return port;
  } catch {
    return undefined;
  } finally {
    await new Promise((resolve) => server.close(resolve));
  }
}
