import { Agent as HttpAgent, type IncomingMessage, request as requestHttp } from "node:http";
import { Agent as HttpsAgent, request as requestHttps } from "node:https";
import { buffer } from "node:stream/consumers";

/** A row of net.http_request_queue. */
export interface Delivery {
  id: string;
  method: string;
  url: string;
  headers: Record<string, unknown> | null;
  body: Uint8Array | null;
  timeout_milliseconds: number;
}

/** A row of net._http_response. */
export interface Answer {
  id: string;
  status_code: number | null;
  content_type: string | null;
  headers: Record<string, string> | null;
  content: string | null;
  timed_out: boolean;
  error_msg: string | null;
}

interface Hop {
  method: string;
  url: URL;
  headers: [string, string][];
  body: Uint8Array | null;
}

const plain = { request: requestHttp, agent: new HttpAgent({ keepAlive: true }) };
const secure = { request: requestHttps, agent: new HttpsAgent({ keepAlive: true }) };

/** Sends a request once, whatever comes of it, with the outcomes and in the words of pg_net and libcurl. */
export async function send(delivery: Delivery, holdMs = 0): Promise<Answer> {
  const started = performance.now();
  const timeoutMs = delivery.timeout_milliseconds;
  // Of the whole call; 0 and less mean none.
  const signal = timeoutMs > 0 ? AbortSignal.timeout(timeoutMs) : new AbortController().signal;
  try {
    const response = await follow(firstHop(delivery), signal);
    const content = (await buffer(response)).toString("utf8").split("\0")[0] ?? "";
    await hold(holdMs, signal);
    return {
      id: delivery.id,
      status_code: response.statusCode ?? null,
      content_type: response.headers["content-type"] ?? null,
      headers: Object.fromEntries(pairs(response.rawHeaders)), // of a repeated one the last stays
      content,
      timed_out: false,
      error_msg: null,
    };
  } catch (error) {
    const totalMs = (performance.now() - started).toFixed(3);
    return {
      ...unreached(delivery.id, signal.aborted ? timeoutMessage(timeoutMs, totalMs) : transportMessage(error)),
      timed_out: signal.aborted,
    };
  }
}

export function unreached(id: string, message: string): Answer {
  return {
    id,
    status_code: null,
    content_type: null,
    headers: null,
    content: null,
    timed_out: false,
    error_msg: message,
  };
}

function firstHop({ method, url, headers, body }: Delivery): Hop {
  const given = Object.entries(headers ?? {})
    .map(([name, value]): [string, string] => [name, typeof value === "string" ? value : JSON.stringify(value)])
    .filter(([, value]) => value !== "" && value !== "null");
  const isPost = method.toUpperCase() === "POST";
  const hasType = given.some(([name]) => name.toLowerCase() === "content-type");
  const form: [string, string][] = isPost && !hasType ? [["Content-Type", "application/x-www-form-urlencoded"]] : [];
  return {
    method: method.toUpperCase(),
    url: new URL(url),
    // Ours comes last, and beside one of the caller's.
    headers: [["Accept", "*/*"], ...given, ...form, ["User-Agent", "pg_net/0.20.4"]],
    body: body ?? (isPost ? new Uint8Array() : null),
  };
}

/** As libcurl: 301, 302 and 303 turn a POST into a GET without body, 307 and 308 keep both. No limit but the timeout. */
async function follow(hop: Hop, signal: AbortSignal): Promise<IncomingMessage> {
  const response = await exchange(hop, signal);
  const { location } = response.headers;
  const status = response.statusCode ?? 0;
  if (location === undefined || ![301, 302, 303, 307, 308].includes(status)) return response;
  response.resume();
  const url = new URL(location, hop.url);
  const becomesGet = status <= 303 && hop.method === "POST";
  const headers = hop.headers.filter(([name]) => {
    if (url.origin !== hop.url.origin && name.toLowerCase() === "authorization") return false;
    return !(becomesGet && name.toLowerCase() === "content-type");
  });
  return await follow(becomesGet ? { method: "GET", url, headers, body: null } : { ...hop, url, headers }, signal);
}

function exchange(hop: Hop, signal: AbortSignal, isRepeat = false): Promise<IncomingMessage> {
  const { method, url, headers, body } = hop;
  if (url.protocol !== "http:" && url.protocol !== "https:") throw new Error("Unsupported protocol");
  const length: [string, string][] = body === null ? [] : [["Content-Length", String(body.length)]];
  return new Promise((resolve, reject) => {
    const { request, agent } = url.protocol === "http:" ? plain : secure;
    const outgoing = request(url, {
      method,
      headers: [["Host", url.host], ...headers, ...length].flat(),
      // A repeat gets a connection of its own, so that it cannot fail for the same reason.
      agent: isRepeat ? false : agent,
      signal,
    });
    outgoing.on("response", resolve);
    outgoing.on("error", (error) => {
      // The kept connection was closing: libcurl sends again as well. So a request may arrive twice.
      const isStale = outgoing.reusedSocket && !isRepeat && Object(error).code === "ECONNRESET";
      if (isStale && !signal.aborted) resolve(exchange(hop, signal, true));
      else reject(error);
    });
    outgoing.end(body ?? undefined);
  });
}

/** The answer comes late, or after the timeout. */
function hold(ms: number, signal: AbortSignal): Promise<void> {
  if (ms === 0) return Promise.resolve();
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    }, { once: true });
  });
}

function timeoutMessage(timeoutMs: number, totalMs: string): string {
  return `Timeout of ${timeoutMs} ms reached. Total time: ${totalMs} ms (DNS time: 0.000 ms, ` +
    `TCP/SSL handshake time: 0.000 ms, HTTP Request/Response time: ${totalMs} ms)`;
}

function transportMessage(error: unknown): string {
  const { code, message } = Object(error);
  if (["ECONNREFUSED", "EHOSTUNREACH", "ENETUNREACH", "EADDRNOTAVAIL"].includes(code)) {
    return "Couldn't connect to server";
  }
  if (code === "ENOTFOUND" || code === "EAI_AGAIN") return "Couldn't resolve host name";
  if (code === "ECONNRESET" || code === "EPIPE") return "Server returned nothing (no headers, no data)";
  return String(message ?? error);
}

function pairs(flat: string[]): [string, string][] {
  return flat.flatMap((name, index) => (index % 2 === 0 ? [[name, flat[index + 1] ?? ""] as [string, string]] : []));
}
