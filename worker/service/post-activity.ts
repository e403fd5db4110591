import { ApplicationFailure } from "@temporalio/common";
import { type HttpAnswer, postJson } from "./post-json.ts";

export interface ActivityCall {
  url: string;
  /** The same for all attempts of one activity. */
  idempotencyKey: string;
  body: Record<string, unknown>;
  timeoutMs: number;
  signal: AbortSignal;
}

/** Temporal refuses payloads above 2 MiB, so a larger answer could not be recorded. */
const MAX_ANSWER_BYTES = 2 * 1024 * 1024;
const MAX_RETRY_AFTER_SECONDS = 3600;
const RETRYABLE_STATUS = new Set([408, 425, 429]);

/**
 * One attempt: the endpoint's JSON, null for an empty body.
 *
 * @throws {ApplicationFailure} saying what was called, what came back and what to do; retryable where the next attempt
 * may succeed: no connection, no answer in time, 408, 425, 429, 5xx
 */
export async function postActivity(call: ActivityCall): Promise<unknown> {
  const answer = await send(call);
  const action = `POST ${withoutQuery(call.url)}`;
  if (answer.status >= 200 && answer.status < 300) return readResult(action, answer);
  const said = `${action} answered ${answer.status}${messageOf(answer.text)}`;
  if (answer.status >= 500 || RETRYABLE_STATUS.has(answer.status)) {
    const seconds = retryAfterSeconds(answer.headers["retry-after"]);
    throw ApplicationFailure.create({
      message: said,
      type: "ActivityEndpointUnavailable",
      ...(seconds === undefined ? {} : { nextRetryDelay: seconds * 1000 }),
    });
  }
  if (answer.status >= 300 && answer.status < 400) {
    const target = answer.headers.location === undefined ? "" : ` to ${withoutQuery(answer.headers.location)}`;
    throw refused(
      `${said}: a redirect${target}, which is not followed. Set options.activity_endpoint to the final URL`,
    );
  }
  throw refused(`${said}. Correct the endpoint or options.activity_endpoint, then start the workflow again`);
}

async function send({ url, idempotencyKey, body, timeoutMs, signal }: ActivityCall): Promise<HttpAnswer> {
  // A little before Temporal's own timeout, whose failure could not say what was waited for.
  const timeout = AbortSignal.timeout(timeoutMs - Math.min(1_000, timeoutMs / 10));
  try {
    return await postJson({
      url: new URL(url),
      headers: { "idempotency-key": idempotencyKey },
      body: JSON.stringify(body),
      signal: AbortSignal.any([signal, timeout]),
      maxAnswerBytes: MAX_ANSWER_BYTES,
    });
  } catch (error) {
    const message = timeout.aborted
      ? `POST ${withoutQuery(url)} gave no answer within ${timeoutMs / 1000} s. Answer sooner, or raise ` +
        `options.activity_timeout_seconds`
      : `POST ${withoutQuery(url)} failed: ${reasonOf(error)}. Is the endpoint running and reachable from the worker?`;
    throw ApplicationFailure.create({ message, type: "ActivityEndpointUnreachable" });
  }
}

function readResult(action: string, { text, isTruncated, status }: HttpAnswer): unknown {
  if (isTruncated) {
    throw refused(`${action} answered more than 2 MiB. Store the result elsewhere and answer with a reference to it`);
  }
  if (text.trim() === "") return null;
  try {
    return JSON.parse(text);
  } catch {
    throw refused(
      `${action} answered ${status} with a body that is not JSON: ${excerpt(text)}. Answer with JSON or nothing`,
    );
  }
}

function refused(message: string): ApplicationFailure {
  return ApplicationFailure.nonRetryable(message, "ActivityEndpointRefused");
}

/** `: no such invoice`, from `message` or `error` of a JSON body, else its text; empty when the body says nothing. */
function messageOf(text: string): string {
  const said = saidInJson(text) ?? text;
  return said.trim() === "" ? "" : `: ${excerpt(said)}`;
}

function saidInJson(text: string): string | undefined {
  try {
    const { message, error, detail } = Object(JSON.parse(text));
    return [message, Object(error).message, error, detail].find((said) => typeof said === "string");
  } catch {
    return undefined;
  }
}

function excerpt(text: string): string {
  // deno-lint-ignore no-control-regex -- control characters would break the line of a log
  const line = text.slice(0, 600).replace(/[\s\u0000-\u001f\u007f]+/g, " ").trim();
  return line.length <= 300 ? line : `${line.slice(0, 300)}…`;
}

/** RFC 9110, 10.2.3: seconds or a date. An hour at most: a typing error must not park a workflow for a year. */
function retryAfterSeconds(header: string | undefined): number | undefined {
  if (header === undefined) return undefined;
  const seconds = /^\d+$/.test(header.trim()) ? Number(header) : (Date.parse(header) - Date.now()) / 1000;
  return seconds > 0 ? Math.min(seconds, MAX_RETRY_AFTER_SECONDS) : undefined;
}

/** Queries carry tokens, and messages end in logs and histories. */
function withoutQuery(url: string): string {
  return url.replace(/[?#].*$/s, "");
}

/** A refused connection to a name with several addresses is an AggregateError without a message of its own. */
function reasonOf(error: unknown): string {
  if (error instanceof AggregateError) return error.errors.map(reasonOf).join(", ");
  return error instanceof Error ? error.message : String(error);
}
