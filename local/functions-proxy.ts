import { type IncomingMessage, request, type RequestListener, type ServerResponse } from "node:http";
import type { Log } from "./program.ts";
import { requestUrl } from "./request-url.ts";

/** Passes `/functions/v1/<name>/…` on to the functions server as `/<name>/…`, both bodies as they flow. */
export function createFunctionsProxy(functionsUrl: string, log: Log): RequestListener {
  const { hostname, port } = new URL(functionsUrl);
  return (incoming, outgoing) => {
    const { pathname = "/", search = "" } = requestUrl(incoming) ?? {};
    // Host and path apart: of a path such as //elsewhere/ a URL would make a host.
    const passed = request({
      hostname,
      port,
      path: `${pathname.replace(/^\/functions\/v1/, "") || "/"}${search}`,
      method: incoming.method,
      headers: { ...incoming.headers, "x-forwarded-host": incoming.headers.host, "x-forwarded-proto": "http" },
      // A connection of its own: a kept one may be closing just as a doorbell that nobody repeats goes out.
      agent: false,
    });
    passed.on("response", (response) => answer(response, outgoing));
    passed.on("error", (error) => {
      if (outgoing.destroyed) return;
      if (outgoing.headersSent) {
        outgoing.destroy();
        return;
      }
      log.warn({ event: "functions.away", reason: error.message });
      const message = `The functions server at ${functionsUrl} is away (${error.message}): its log says why`;
      outgoing.writeHead(503, { "content-type": "application/json" });
      outgoing.end(JSON.stringify({ code: "FUNCTIONS_AWAY", message }));
    });
    outgoing.on("close", () => passed.destroy());
    incoming.pipe(passed);
  };
}

function answer(response: IncomingMessage, outgoing: ServerResponse): void {
  const { connection: _, "keep-alive": __, "transfer-encoding": ___, ...headers } = response.headers;
  outgoing.writeHead(response.statusCode ?? 502, headers);
  response.on("error", () => outgoing.destroy());
  response.pipe(outgoing);
}
