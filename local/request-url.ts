import type { IncomingMessage } from "node:http";

/**
 * The URL of a request as everybody behind the server sees it: `..`, `//` and backslashes are worked out before anything is
 * decided by its path. Undefined where the request line or the Host header is no part of a URL: both are the caller's words.
 */
export function requestUrl({ url, headers }: IncomingMessage): URL | undefined {
  const host = headers.host ?? "127.0.0.1";
  if (url === undefined || !url.startsWith("/") || !/^[A-Za-z0-9.\-[\]:]+$/.test(host)) return undefined;
  return URL.parse(`http://${host}${url}`) ?? undefined;
}
