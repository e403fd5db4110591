import type { Server, Socket } from "node:net";

export interface Listener {
  /** Where it listens on 127.0.0.1. */
  port: number;
  /** Ends it with all its connections, tunnels too. */
  stop(): Promise<void>;
}

export async function listenOnLoopback(server: Server): Promise<Listener> {
  const sockets = new Set<Socket>();
  server.on("connection", (socket: Socket) => {
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
  });
  await new Promise<void>((resolve, reject) => server.once("error", reject).listen(0, "127.0.0.1", resolve));
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("A server on 127.0.0.1 has no port");
  return {
    port: address.port,
    async stop() {
      const closed = new Promise((resolve) => server.close(resolve));
      for (const socket of sockets) socket.destroy();
      await closed;
    },
  };
}
