import type { IncomingMessage, RequestListener, ServerResponse } from "node:http";
import { pipeline } from "node:stream/promises";
import type { Log } from "./program.ts";

/** Above the 50 MiB that Storage takes by default. */
const MAX_BODY_BYTES = 64 * 1024 * 1024;

/**
 * Serves a function on web-standard requests through `node:http`.
 *
 * The body is read whole before: an answer that comes before the end of an upload (too large, wrong type) would
 * otherwise cut the connection, and the client's next request on it fails.
 */
export function createFetchListener(
  handle: (request: Request, peerAddress: string | null) => Promise<Response>,
  log: Log,
): RequestListener {
  return (incoming, outgoing) => {
    void (async () => {
      const body = await readBody(incoming);
      const response = body === undefined
        ? Response.json({ statusCode: "413", error: "Payload too large", message: "The body is larger than 64 MiB" }, {
          status: 413,
        })
        : await handle(toRequest(incoming, body), incoming.socket.remoteAddress ?? null);
      await sendResponse(response, outgoing);
    })().catch((error: unknown) => {
      if (incoming.destroyed && !incoming.complete) return; // the client went away
      log.error({ event: "request.failed", method: incoming.method, path: incoming.url?.split("?")[0], error });
      if (outgoing.headersSent) outgoing.destroy();
      else {outgoing.writeHead(500, { "content-type": "application/json" }).end(
          '{"message":"Internal error, see the log"}',
        );}
    });
  };
}

/** Undefined when it is too large; it is then read to its end and dropped. */
async function readBody(incoming: IncomingMessage): Promise<Uint8Array<ArrayBuffer> | undefined> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of incoming) {
    size += chunk.length;
    if (size <= MAX_BODY_BYTES) chunks.push(chunk);
    else chunks.length = 0;
  }
  return size > MAX_BODY_BYTES ? undefined : new Uint8Array(Buffer.concat(chunks));
}

function toRequest(incoming: IncomingMessage, body: Uint8Array<ArrayBuffer>): Request {
  const headers = new Headers();
  for (const [name, values] of Object.entries(incoming.headersDistinct)) {
    for (const value of values ?? []) headers.append(name, value);
  }
  const method = incoming.method ?? "GET";
  const hasBody = method !== "GET" && method !== "HEAD";
  // A chunked upload has no length of its own, and limits look at the header.
  if (hasBody) headers.set("content-length", String(body.length));
  const url = new URL(incoming.url ?? "/", `http://${incoming.headers.host ?? "127.0.0.1"}`);
  return new Request(url, { method, headers, ...(hasBody ? { body } : {}) });
}

async function sendResponse(response: Response, outgoing: ServerResponse): Promise<void> {
  outgoing.statusCode = response.status;
  outgoing.setHeaders(response.headers);
  if (response.body === null) outgoing.end();
  else await pipeline(response.body, outgoing);
}
