import { once } from "node:events";
import { createServer, request } from "node:http";

export interface StorageGate {
  /** What stands behind it, through the gate. */
  url: string;
  /** From now on requests for such an object are taken in and never answered; "" is the removal of several. */
  hold(isHeld: (path: string) => boolean): void;
  /** From now on everything passes; what was held stays so. */
  open(): void;
  /** Objects whose requests were held. */
  held: string[];
  close(): void;
}

const OBJECT = /^\/storage\/v1\/object\/manifests\/?/;

/** A proxy before the API: what a Storage is that does not answer, while the Data API does. */
export async function startStorageGate(apiUrl: string): Promise<StorageGate> {
  const target = new URL(apiUrl);
  let isHeld: (path: string) => boolean = () => false;
  const held: string[] = [];
  const server = createServer((incoming, outgoing) => {
    const { pathname } = new URL(incoming.url ?? "/", apiUrl);
    const path = pathname.replace(OBJECT, "");
    if (path !== pathname && isHeld(path)) {
      incoming.resume();
      held.push(path);
      return;
    }
    const passed = request({
      host: target.hostname,
      port: target.port,
      path: incoming.url,
      method: incoming.method,
      headers: incoming.headers,
      agent: false,
    }, (answer) => {
      outgoing.writeHead(answer.statusCode ?? 502, answer.headers);
      answer.pipe(outgoing);
    });
    passed.on("error", () => outgoing.destroy());
    outgoing.on("close", () => passed.destroy());
    incoming.pipe(passed);
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    url: `http://127.0.0.1:${Object(server.address()).port}`,
    hold: (which) => void (isHeld = which),
    open: () => void (isHeld = () => false),
    held,
    close() {
      server.closeAllConnections();
      server.close();
    },
  };
}
