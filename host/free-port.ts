import { createServer } from "node:net";

/** A TCP port of 127.0.0.1 that nobody listens on at this moment. */
export async function freePort(): Promise<number> {
  const port = await tryPort(0);
  if (port === undefined) throw new Error("Cannot find a free port on 127.0.0.1");
  return port;
}

/** The port itself (any free one for 0); undefined where somebody listens on it already. */
export async function tryPort(port: number): Promise<number | undefined> {
  const server = createServer();
  try {
    await new Promise<void>((resolve, reject) => server.once("error", reject).listen(port, "127.0.0.1", resolve));
    const address = server.address();
    return address === null || typeof address === "string" ? undefined : address.port;
  } catch {
    return undefined;
  } finally {
    await new Promise((resolve) => server.close(resolve));
  }
}
