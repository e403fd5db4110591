import { once } from "node:events";
import { createServer, type IncomingHttpHeaders, type IncomingMessage, type ServerResponse } from "node:http";
import { text } from "node:stream/consumers";

export interface ReceivedCall {
  path: string;
  headers: IncomingHttpHeaders;
  idempotencyKey: string;
  /** As it came. */
  raw: string;
  body: Record<string, unknown>;
}

export interface ActivityServer {
  url: string;
  calls: ReceivedCall[];
  /** The first call that matches, that came or comes. */
  call(matches: (call: ReceivedCall) => boolean): Promise<ReceivedCall>;
  close(): Promise<void>;
}

export type Responder = (call: ReceivedCall, response: ServerResponse, number: number) => unknown;

/** An endpoint that runs activities; `respond` gets each call and how many came for this activity so far, from 1. */
export async function startActivityServer(respond: Responder, port = 0): Promise<ActivityServer> {
  const calls: ReceivedCall[] = [];
  const waiting = new Set<() => void>();
  const receive = async (request: IncomingMessage, response: ServerResponse) => {
    const path = request.url ?? "";
    const { headers } = request;
    const raw = await text(request);
    const call = {
      path,
      headers,
      idempotencyKey: String(headers["idempotency-key"]),
      raw,
      body: Object(JSON.parse(raw)),
    };
    calls.push(call);
    respond(call, response, calls.filter((other) => other.path === path).length);
    for (const look of waiting) look();
  };
  const server = createServer((request, response) => void receive(request, response)).listen(port, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  if (typeof address !== "object" || address === null) throw new Error("The activity server has no port");
  return {
    url: `http://127.0.0.1:${address.port}`,
    calls,
    async call(matches) {
      const { promise, resolve, reject } = Promise.withResolvers<ReceivedCall>();
      const timer = setTimeout(() => reject(new Error(`No such call; there were ${JSON.stringify(calls)}`)), 30_000);
      const look = () => {
        const found = calls.find(matches);
        if (found !== undefined) resolve(found);
      };
      waiting.add(look);
      look();
      return await promise.finally(() => {
        clearTimeout(timer);
        waiting.delete(look);
      });
    },
    async close() {
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    },
  };
}

/** Answers with JSON. */
export function reply(response: ServerResponse, status: number, body: unknown, headers: Record<string, string> = {}) {
  response.writeHead(status, { "content-type": "application/json", ...headers }).end(JSON.stringify(body));
}
