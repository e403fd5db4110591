import { once } from "node:events";
import { connect, createServer, type Socket } from "node:net";

export interface FreezableProxy {
  /** The given URL, through the proxy. */
  url: string;
  /** From now on nothing passes, and nobody is told: a network that swallows everything. */
  freeze(): void;
  /** Both ends of every connection are gone, as when the network's memory of them ends. */
  cut(): void;
  close(): void;
}

/** A TCP proxy in front of a Postgres. */
export async function startProxy(databaseUrl: string): Promise<FreezableProxy> {
  const target = new URL(databaseUrl);
  const sockets = new Set<Socket>();
  let isFrozen = false;
  const keep = (socket: Socket) => {
    sockets.add(socket);
    socket.on("error", () => {}).on("close", () => sockets.delete(socket));
  };
  const server = createServer((client) => {
    keep(client);
    if (isFrozen) return;
    const upstream = connect(Number(target.port), target.hostname);
    keep(upstream);
    // By hand, not piped: also the end of a connection must not pass once it is frozen.
    for (const [from, to] of [[client, upstream], [upstream, client]] as const) {
      from.on("data", (chunk) => void (isFrozen || to.write(chunk)));
      from.on("close", () => void (isFrozen || to.destroy()));
    }
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const url = new URL(databaseUrl);
  url.port = String(Object(server.address()).port);
  const cut = () => sockets.forEach((socket) => socket.destroy());
  return {
    url: url.href,
    freeze: () => void (isFrozen = true),
    cut,
    close() {
      cut();
      server.close();
    },
  };
}
