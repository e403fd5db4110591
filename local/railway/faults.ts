import type { RecordedRequest } from "./journal.ts";

/** What becomes of a request instead of being answered. */
export interface Trouble {
  /** How often it takes effect before the trouble: 0 by default; 2 for a request that a network repeats. */
  lands?: 0 | 1 | 2;
  /** It takes effect only when this settles, whether its client still waits or is gone. */
  landsAfter?: Promise<unknown>;
  /** What is sent. Left out, the answer of the last landing; `"cut"` closes the connection without a word. */
  answer?: Answer | "cut";
  /** Kept waiting until this settles, or the client gives up. */
  until?: Promise<unknown>;
}

export interface Answer {
  status: number;
  headers?: Record<string, string>;
  body: string;
}

/** Which requests a trouble befalls. */
export interface Fault extends Trouble {
  /** An operation's name, a root field, `up` for uploads, or `*`. */
  on: string;
  /** Only requests that name this service. */
  serviceId?: string;
  /** Matching requests that pass before. */
  skip?: number;
  /** How many it befalls; 1 by default. */
  times?: number;
}

const json = { "content-type": "application/json" };

export const TOO_LARGE: Answer = { status: 413, headers: { "content-type": "text/plain" }, body: "Payload too large" };

const graphqlError = (message: string): Trouble => ({
  answer: { status: 200, headers: json, body: JSON.stringify({ data: null, errors: [{ message }] }) },
});

/** The troubles that Railway is known for. */
export const troubles = {
  /** Answered late; the effect is there at once. */
  late: (until: Promise<unknown>): Trouble => ({ lands: 1, until }),
  /** On its way for a while: the effect comes late. */
  onItsWay: (landsAfter: Promise<unknown>): Trouble => ({ lands: 1, landsAfter }),
  /** Takes effect twice and is answered once, as when a proxy repeats it. */
  twice: (): Trouble => ({ lands: 2 }),
  /** The connection is closed before the request has an effect. */
  cutBefore: (): Trouble => ({ answer: "cut" }),
  /** The connection is closed after the request took effect. */
  cutAfter: (): Trouble => ({ lands: 1, answer: "cut" }),
  /** The limit of requests per hour and token. */
  rateLimited: (retryAfterSeconds: number): Trouble => ({
    answer: {
      status: 429,
      headers: { ...json, "retry-after": String(retryAfterSeconds) },
      body: JSON.stringify({ errors: [{ message: "Too many requests" }] }),
    },
  }),
  /** An error among GraphQL's: HTTP 200, nothing took effect. */
  graphqlError,
  /** A workspace's throttle of an operation: it comes as a GraphQL error. */
  throttled: () => graphqlError("You are creating services too quickly. Your plan allows 1 service per 30 seconds"),
  /** A server error with a GraphQL body. */
  serverError: (message = "Internal server error", status = 500): Trouble => ({
    answer: { status, headers: json, body: JSON.stringify({ errors: [{ message }] }) },
  }),
  /** What an edge answers in the servers' place. */
  htmlPage: (status = 502): Trouble => ({
    answer: { status, headers: { "content-type": "text/html" }, body: "<html><body>Bad gateway</body></html>" },
  }),
  /** An upload above the limit. */
  tooLarge: (): Trouble => ({ answer: TOO_LARGE }),
};

export interface Faults {
  add(fault: Fault): void;
  clear(): void;
  /** The trouble that befalls a request, which is used up by it. */
  take(request: RecordedRequest): Trouble | undefined;
}

export function createFaults(): Faults {
  let faults: (Fault & { skip: number; times: number })[] = [];
  return {
    add: (fault) => void faults.push({ ...fault, skip: fault.skip ?? 0, times: fault.times ?? 1 }),
    clear: () => void (faults = []),
    take(request) {
      const fault = faults.find((each) => each.times > 0 && befalls(each, request));
      if (fault === undefined) return undefined;
      if (fault.skip > 0) fault.skip--;
      else {
        fault.times--;
        return fault;
      }
      return undefined;
    },
  };
}

function befalls({ on, serviceId }: Fault, request: RecordedRequest): boolean {
  const isMeant = on === "*" || on === request.operation || request.fields.includes(on);
  return isMeant && (serviceId === undefined || request.serviceIds.includes(serviceId));
}
