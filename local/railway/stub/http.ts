import { readFileSync } from "node:fs";
import { Agent, request } from "node:https";
import { rootCertificates } from "node:tls";
import { HOST } from "../host.ts";
import type { Environment } from "./credentials.ts";
import { NotInStubError } from "./failure.ts";

export interface Response {
  status: number;
  /** As the CLI prints it, "502 Bad Gateway". */
  statusText: string;
  retryAfterSeconds: number | undefined;
  body: string;
}

/** No answer came; `causes` say why, in the words of the CLI's HTTP library. */
export class NetworkError extends Error {
  override readonly name = "NetworkError";
  readonly causes: string[];
  constructor(url: string, causes: string[]) {
    super(`error sending request for url (${url})`);
    this.causes = causes;
  }
}

export interface Client {
  post(path: string, headers: Record<string, string>, body: string | Buffer): Promise<Response>;
}

/** Speaks to whatever HTTPS_PROXY leads to. @param version of the CLI that is stood in for */
export function createClient(version: string, environment: Environment): Client {
  // Else a test without a stand-in would speak to Railway itself.
  if (!environment["HTTPS_PROXY"]) throw new NotInStubError("an environment without HTTPS_PROXY");
  const agent = new Agent({
    proxyEnv: { HTTPS_PROXY: environment["HTTPS_PROXY"] },
    ca: [...rootCertificates, ...extraAuthority(environment)],
    maxVersion: "TLSv1.3",
  });
  const signature = `CLI ${version}`;
  const own = {
    "user-agent": signature,
    "x-source": signature,
    "x-railway-opencode-protocols": "v1,v2",
    accept: "*/*",
  };
  const timeoutMs = timeoutSeconds(environment) * 1000;
  return {
    post: (path, headers, body) => post(`https://${HOST}${path}`, { ...own, ...headers }, body, { agent, timeoutMs }),
  };
}

function post(
  url: string,
  headers: Record<string, string>,
  body: string | Buffer,
  { agent, timeoutMs }: { agent: Agent; timeoutMs: number },
): Promise<Response> {
  return new Promise((resolve, reject) => {
    const signal = AbortSignal.timeout(timeoutMs);
    const fail = (error: Error) =>
      reject(new NetworkError(url, signal.aborted ? ["operation timed out"] : causesOf(error)));
    const length = { "content-length": String(Buffer.byteLength(body)) };
    const outgoing = request(url, { method: "POST", agent, headers: { ...headers, ...length }, signal }, (incoming) => {
      const chunks: Buffer[] = [];
      incoming.on("data", (chunk: Buffer) => chunks.push(chunk));
      incoming.on("error", fail);
      incoming.on("end", () => {
        const { statusCode = 0, statusMessage = "", headers: answered } = incoming;
        const retryAfter = answered["retry-after"];
        resolve({
          status: statusCode,
          statusText: `${statusCode} ${statusMessage}`,
          retryAfterSeconds: retryAfter === undefined ? undefined : Number(retryAfter),
          body: Buffer.concat(chunks).toString(),
        });
      });
    });
    outgoing.on("error", fail);
    outgoing.end(body);
  });
}

/** By the code of Node's error; any other ended the connection. */
const causesByCode: Record<string, string[]> = {
  ECONNREFUSED: [
    "client error (Connect)",
    "tunnel error: failed to create underlying connection",
    "tcp connect error",
    "Connection refused (os error 111)",
  ],
  ERR_PROXY_TUNNEL: ["client error (Connect)", "tunnel error: unsuccessful"],
  SELF_SIGNED_CERT_IN_CHAIN: ["client error (Connect)", "invalid peer certificate: UnknownIssuer"],
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: ["client error (Connect)", "invalid peer certificate: UnknownIssuer"],
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: ["client error (Connect)", "invalid peer certificate: UnknownIssuer"],
};

function causesOf({ code = "" }: Error & { code?: string }): string[] {
  const closed = "peer closed connection without sending TLS close_notify: " +
    "https://docs.rs/rustls/latest/rustls/manual/_03_howto/index.html#unexpected-eof";
  return causesByCode[code] ?? ["client error (SendRequest)", "connection error", closed];
}

/** A file that cannot be read is passed over in silence. */
function extraAuthority({ SSL_CERT_FILE }: Environment): string[] {
  try {
    return SSL_CERT_FILE === undefined ? [] : [readFileSync(SSL_CERT_FILE, "utf8")];
  } catch {
    return [];
  }
}

function timeoutSeconds({ RAILWAY_HTTP_TIMEOUT: given }: Environment): number {
  if (given === undefined) return 90;
  if (/^0*[1-9]\d*$/.test(given.trim())) return Number(given);
  throw new NotInStubError(`RAILWAY_HTTP_TIMEOUT=${given}`);
}
