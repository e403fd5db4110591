import { Agent as HttpAgent, type IncomingHttpHeaders, type IncomingMessage, request as requestHttp } from "node:http";
import { Agent as HttpsAgent, request as requestHttps } from "node:https";
import type { AddressPolicy } from "./address-policy.ts";
import { checkLiteral, guardedLookup, type Resolve } from "./guarded-lookup.ts";

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
  body: Buffer;
  isTruncated: boolean;
}

export type PostJson = (post: JsonPost) => Promise<HttpAnswer>;

/** What makes no connection by then would make none: only an answer may take its time. */
const CONNECT_TIMEOUT_MS = 30_000;
/** So soon a kept connection fails that the other side had closed before it read what was posted. */
const CLOSED_WITHIN_MS = 1_000;
/** A connection that waits for its answer is kept open by what stands between (TCP keep-alive), and found dead. */
const TCP_KEEP_ALIVE_MS = 30_000;

/**
 * Posts JSON to addresses that the policy allows, on connections that are kept for the next post; follows no redirect.
 *
 * `node:http` and not `fetch`: Node's fetch gives up after 300 s without headers, whatever the signal says, and an
 * activity may take a day.
 */
export function createPostJson(policy: AddressPolicy, lookup?: Resolve): PostJson {
  const kept = { keepAlive: true, keepAliveMsecs: TCP_KEEP_ALIVE_MS, scheduling: "lifo" as const };
  const lookups = {
    "http:": guardedLookup(policy, "http:", lookup),
    "https:": guardedLookup(policy, "https:", lookup),
  };
  const agents = { "http:": new HttpAgent(kept), "https:": new HttpsAgent(kept) };

  /** @throws {ClosedWhileIdleError} when a kept connection turned out to be closed */
  async function postOnce({ url, headers, body, signal }: JsonPost, isKept: boolean): Promise<IncomingMessage> {
    const protocol = url.protocol === "https:" ? "https:" : "http:";
    const send = protocol === "https:" ? requestHttps : requestHttp;
    const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
    const begunAt = performance.now();
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
      lookup: lookups[protocol],
      agent: isKept ? agents[protocol] : false,
    }, resolve);
    const connecting = setTimeout(() => {
      request.destroy(new Error(`no connection within ${CONNECT_TIMEOUT_MS / 1000} s`));
    }, CONNECT_TIMEOUT_MS);
    request.on("socket", (socket) => {
      if (request.reusedSocket) clearTimeout(connecting);
      else socket.once(protocol === "https:" ? "secureConnect" : "connect", () => clearTimeout(connecting));
    });
    request.on("error", (error) => {
      const isSoon = performance.now() - begunAt < CLOSED_WITHIN_MS;
      reject(isSoon && request.reusedSocket && isClosed(error) ? new ClosedWhileIdleError() : error);
    });
    request.end(body);
    return await promise.finally(() => clearTimeout(connecting));
  }

  return async (post) => {
    checkLiteral(post.url, policy);
    const response = await postOnce(post, true).catch((error: unknown) => {
      if (error instanceof ClosedWhileIdleError) return postOnce(post, false);
      throw error;
    });
    const { bytes, isTruncated } = await readUpTo(response, post.maxAnswerBytes);
    return { status: response.statusCode ?? 0, headers: response.headers, body: bytes, isTruncated };
  };
}

/**
 * The other side closed a kept connection just when it was taken up again. That is nobody's fault and uses up no attempt:
 * it is posted once more, on a new connection. Should it have been read after all, its idempotency key is the same.
 */
class ClosedWhileIdleError extends Error {
  override readonly name = "ClosedWhileIdleError";
}

function isClosed(error: unknown): boolean {
  return ["ECONNRESET", "EPIPE"].includes(String(Object(error).code));
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
