import type { IncomingMessage, RequestListener, ServerResponse } from "node:http";
import { pipeline } from "node:stream/promises";
import type { Log } from "./program.ts";
import { requestUrl } from "./request-url.ts";

/** Above the 50 MiB that Storage takes by default. */
const MAX_BODY_BYTES = 64 * 1024 * 1024;
/** What is read of a body that is too large; a longer one may have no end. */
const MAX_DROPPED_BYTES = 4 * MAX_BODY_BYTES;

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
      const url = requestUrl(incoming);
      const body = await readBody(incoming);
      await sendResponse(await answer(incoming, url, body), outgoing);
    })().catch((error: unknown) => {
      if (incoming.destroyed && !incoming.complete) return; // the client went away
      log.error({ event: "request.failed", method: incoming.method, path: incoming.url?.split("?")[0], error });
      if (outgoing.headersSent) outgoing.destroy();
      else {outgoing.writeHead(500, { "content-type": "application/json" }).end(
          '{"message":"Internal error, see the log"}',
        );}
    });
  };

  async function answer(incoming: IncomingMessage, url: URL | undefined, body: Uint8Array<ArrayBuffer> | undefined) {
    if (incoming.method === "TRACE") return refusal(405, "Method not allowed", "TRACE is not served");
    if (url === undefined) return refusal(400, "Bad request", "The path or the Host header is no part of a URL");
    if (body === undefined) return refusal(413, "Payload too large", "The body is larger than 64 MiB");
    return await handle(toRequest(incoming, url, body), incoming.socket.remoteAddress ?? null);
  }
}

function refusal(status: number, error: string, message: string): Response {
  return Response.json({ statusCode: String(status), error, message }, { status });
}

/** Undefined when it is too large; it is then read to its end and dropped, within reason. */
async function readBody(incoming: IncomingMessage): Promise<Uint8Array<ArrayBuffer> | undefined> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of incoming) {
    size += chunk.length;
    if (size <= MAX_BODY_BYTES) chunks.push(chunk);
    else chunks.length = 0;
    if (size > MAX_DROPPED_BYTES) incoming.destroy();
  }
  return size > MAX_BODY_BYTES ? undefined : new Uint8Array(Buffer.concat(chunks));
}

function toRequest(incoming: IncomingMessage, url: URL, body: Uint8Array<ArrayBuffer>): Request {
  const headers = new Headers();
  for (const [name, values] of Object.entries(incoming.headersDistinct)) {
    for (const value of values ?? []) headers.append(name, value);
  }
  const method = incoming.method ?? "GET";
  const hasBody = method !== "GET" && method !== "HEAD";
  // A chunked upload has no length of its own, and limits look at the header.
  if (hasBody) headers.set("content-length", String(body.length));
  return new Request(url, { method, headers, ...(hasBody ? { body } : {}) });
}

async function sendResponse(response: Response, outgoing: ServerResponse): Promise<void> {
  outgoing.statusCode = response.status;
  outgoing.setHeaders(response.headers);
  if (response.body === null) outgoing.end();
  else await pipeline(response.body, outgoing);
}
