import { type IncomingHttpHeaders, type IncomingMessage, request as requestHttp } from "node:http";
import { request as requestHttps } from "node:https";

export interface JsonPost {
  url: URL;
  headers: Record<string, string>;
  body: string;
  signal: AbortSignal;
  /** Reading stops here. */
  maxAnswerBytes: number;
}

export interface HttpAnswer {
  status: number;
  headers: IncomingHttpHeaders;
  text: string;
  isTruncated: boolean;
}

/**
 * Posts JSON; follows no redirect. Rejects when no complete answer came.
 *
 * `node:http` and not `fetch`: Node's fetch gives up after 300 s without headers, whatever the signal says, and an
 * activity may take a day.
 */
export async function postJson({ url, headers, body, signal, maxAnswerBytes }: JsonPost): Promise<HttpAnswer> {
  const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
  const send = url.protocol === "https:" ? requestHttps : requestHttp;
  const request = send(url, {
    method: "POST",
    headers: {
      ...headers,
      "content-type": "application/json",
      "content-length": String(Buffer.byteLength(body)),
      accept: "application/json",
      "accept-encoding": "identity",
    },
    signal,
  }, resolve);
  request.on("error", reject);
  request.end(body);
  const response = await promise;
  const { bytes, isTruncated } = await readUpTo(response, maxAnswerBytes);
  return { status: response.statusCode ?? 0, headers: response.headers, text: bytes.toString("utf8"), isTruncated };
}

async function readUpTo(response: IncomingMessage, limit: number): Promise<{ bytes: Buffer; isTruncated: boolean }> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of response) {
    chunks.push(chunk);
    length += chunk.length;
    if (length > limit) return { bytes: Buffer.concat(chunks).subarray(0, limit), isTruncated: true }; // destroys it
  }
  return { bytes: Buffer.concat(chunks), isTruncated: false };
}
