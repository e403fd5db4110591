import { createHmac } from "node:crypto";
import { once } from "node:events";
import { request } from "node:http";
import { connect } from "node:net";
import { text } from "node:stream/consumers";

export interface RawRequest {
  method?: string;
  /** As it is sent: nothing is worked out of `..` or `//`. */
  path: string;
  headers?: Record<string, string | string[]>;
  body?: string | Uint8Array;
}

export interface RawAnswer {
  status: number;
  headers: Record<string, string | string[] | undefined>;
  text: string;
}

/** Sends a request as it stands: fetch would mend it. */
export async function send(url: string, { method = "GET", path, headers = {}, body }: RawRequest): Promise<RawAnswer> {
  const { hostname, port } = new URL(url);
  const sent = request({ hostname, port, method, path, headers, agent: false });
  sent.end(body);
  const [response] = await once(sent, "response");
  sent.on("error", () => {}); // an answer that comes before the end of a body cuts it
  return { status: response.statusCode, headers: response.headers, text: await text(response) };
}

/** Sends bytes that are no request at all; resolves with all that comes back until the connection ends. */
export async function sendBytes(url: string, bytes: string): Promise<string> {
  const { hostname, port } = new URL(url);
  const socket = connect(Number(port), hostname);
  socket.on("error", () => {}); // cut by the other side: what came until then counts
  socket.end(bytes);
  let answer = "";
  socket.setEncoding("utf8").on("data", (chunk) => answer += chunk);
  await once(socket, "close");
  return answer;
}

/** A JSON Web Token; `secret` null makes an unsigned one. */
export function signToken(claims: Record<string, unknown>, secret: string | null): string {
  const part = (value: unknown) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const signed = `${part({ alg: secret === null ? "none" : "HS256", typ: "JWT" })}.${part(claims)}`;
  const signature = secret === null ? "" : createHmac("sha256", secret).update(signed).digest("base64url");
  return `${signed}.${signature}`;
}
