import { createServer } from "node:http";
import { connect, type Socket } from "node:net";
import type { Duplex } from "node:stream";
import { type Listener, listenOnLoopback } from "./listener.ts";

/**
 * An HTTP proxy on 127.0.0.1 that knows one way only: CONNECT to `authority` ends at `port` of this machine.
 *
 * @param authority host and port as a client writes them, `backboard.railway.com:443`
 * @param onRefused told of every other request, by what it wanted
 */
export function startConnectProxy(
  authority: string,
  port: number,
  onRefused: (wanted: string) => void,
): Promise<Listener> {
  const server = createServer((request, response) => {
    onRefused(`${request.method} ${request.url}`);
    response.writeHead(403).end();
  });
  server.on("connect", (request, client, head) => {
    if (request.url === authority) return tunnel(client, head, port);
    onRefused(`CONNECT ${request.url}`);
    client.on("error", () => {});
    client.end("HTTP/1.1 403 Forbidden\r\n\r\n");
  });
  return listenOnLoopback(server);
}

function tunnel(client: Duplex, head: Buffer, port: number): void {
  const upstream: Socket = connect(port, "127.0.0.1", () => {
    client.write("HTTP/1.1 200 Connection established\r\n\r\n");
    if (head.length > 0) upstream.write(head);
    upstream.pipe(client).pipe(upstream);
  });
  for (const [one, other] of [[client, upstream], [upstream, client]] as const) {
    one.on("error", () => other.destroy());
    one.on("close", () => other.destroy());
  }
}
