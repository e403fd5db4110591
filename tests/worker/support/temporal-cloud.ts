import { once } from "node:events";
import {
  type ClientHttp2Session,
  connect,
  createSecureServer,
  type IncomingHttpHeaders,
  type ServerHttp2Session,
  type ServerHttp2Stream,
} from "node:http2";

/** What stands before a Temporal server as Temporal Cloud does: TLS, and an API key or a client certificate. */
export interface TemporalCloud {
  /** `localhost:<port>` */
  address: string;
  /** Names of the client certificates that connections came with; empty where none is asked for. */
  clients: Set<string>;
  close(): Promise<void>;
}

export interface CloudSettings {
  /** Of the Temporal server behind it, in plain text. */
  target: string;
  tls: { key: string; cert: string };
  /** Calls must bring it; undefined: they need not. */
  apiKey?: string;
  /** Signs the clients' certificates; undefined: none is asked for. */
  clientCa?: string;
}

const UNAUTHENTICATED = {
  ":status": 200,
  "content-type": "application/grpc",
  "grpc-status": "16",
  "grpc-message": "Request unauthorized.",
};
/** Of one connection alone. */
const NOT_FORWARDED = new Set([":scheme", ":authority", "authorization", "connection", "host"]);

export async function startTemporalCloud({ target, tls, apiKey, clientCa }: CloudSettings): Promise<TemporalCloud> {
  const clients = new Set<string>();
  const sessions = new Set<ServerHttp2Session>();
  const behind: ClientHttp2Session = connect(`http://${target}`);
  behind.on("error", () => {}); // told by the call
  const server = createSecureServer({
    ...tls,
    ...(clientCa === undefined ? {} : { ca: clientCa, requestCert: true, rejectUnauthorized: true }),
  });
  server.on("sessionError", () => {});
  server.on("session", (session) => {
    sessions.add(session);
    session.on("close", () => sessions.delete(session));
  });
  server.on("secureConnection", (socket) => {
    const name = socket.getPeerCertificate().subject?.CN;
    if (typeof name === "string") clients.add(name);
  });
  server.on("stream", (stream, headers) => {
    stream.on("error", () => {});
    if (apiKey !== undefined && headers.authorization !== `Bearer ${apiKey}`) {
      stream.respond(UNAUTHENTICATED, { endStream: true });
      return;
    }
    forward(behind, stream, headers);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  if (typeof address !== "object" || address === null) throw new Error("The cloud has no port");
  return {
    address: `localhost:${address.port}`,
    clients,
    async close() {
      behind.destroy();
      server.close();
      for (const session of sessions) session.destroy();
    },
  };
}

function forward(behind: ClientHttp2Session, stream: ServerHttp2Stream, headers: IncomingHttpHeaders): void {
  const kept = Object.fromEntries(Object.entries(headers).filter(([name]) => !NOT_FORWARDED.has(name)));
  const request = behind.request(kept);
  let trailers: IncomingHttpHeaders = {};
  request.on("response", (answered, flags) => {
    const isWhole = (flags & 0x1) !== 0;
    const { ":status": status, ...rest } = answered;
    stream.respond({ ":status": status, ...rest }, isWhole ? { endStream: true } : { waitForTrailers: true });
    if (!isWhole) request.pipe(stream);
  });
  request.on("trailers", (last) => trailers = last);
  stream.on("wantTrailers", () => stream.sendTrailers(trailers));
  request.on("error", () => stream.close());
  stream.on("close", () => request.close());
  stream.pipe(request);
}
