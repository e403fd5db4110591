/** A request that came through the proxy, whatever became of it. */
export interface RecordedRequest {
  /** When it came, counted from 1. */
  number: number;
  /** `operationName`, else the operation's name in the document, else its root fields; `up` for an upload. */
  operation: string;
  /** Root fields of the document; `["up"]` for an upload. */
  fields: string[];
  /** Every service that its variables name. */
  serviceIds: string[];
  variables: Record<string, unknown>;
  headers: Record<string, string | undefined>;
}

/** What was asked for, and what no well-behaved client asks for. */
export interface Journal {
  requests: RecordedRequest[];
  /** What the test must fail of, a sentence each. */
  violations: string[];
}
