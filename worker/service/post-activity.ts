import { ApplicationFailure } from "@temporalio/common";
import { type ActivityCall, MAX_RESULT_BYTES } from "../../supabase/functions/_shared/activity-call.ts";
import { SIGNATURE_HEADER, type Signer } from "../../supabase/functions/_shared/activity-signature.ts";
import { visible } from "../../supabase/functions/_shared/visible-text.ts";
import { EndpointForbiddenError } from "./guarded-lookup.ts";
import type { HttpAnswer, PostJson } from "./post-json.ts";

/** How this worker calls endpoints. */
export interface Caller {
  postJson: PostJson;
  /** Undefined: calls are not signed. */
  sign: Signer | undefined;
  userAgent: string;
}

export interface Post {
  url: string;
  call: ActivityCall;
  timeoutMs: number;
  signal: AbortSignal;
}

const MAX_RETRY_AFTER_SECONDS = 3600;
const RETRYABLE_STATUS = new Set([408, 425, 429]);

/**
 * One attempt: the endpoint's JSON, null for an empty body.
 *
 * @throws {ApplicationFailure} saying what was called, what came back and what to do; retryable where the next attempt
 * may succeed: no connection, no answer in time, 408, 425, 429, 5xx, and an address that a setting may yet allow
 */
export async function postActivity(post: Post, caller: Caller): Promise<unknown> {
  const answer = await send(post, caller);
  const action = `POST ${withoutQuery(post.url)}`;
  if (answer.status >= 200 && answer.status < 300) return readResult(action, answer);
  const said = `${action} answered ${answer.status}${messageOf(textOf(answer))}`;
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

async function send(
  { url, call, timeoutMs, signal }: Post,
  { postJson, sign, userAgent }: Caller,
): Promise<HttpAnswer> {
  const timeout = AbortSignal.timeout(patienceMs(timeoutMs));
  const body = JSON.stringify(call);
  try {
    return await postJson({
      url: new URL(url),
      headers: {
        "idempotency-key": call.idempotency_key,
        "user-agent": userAgent,
        ...(sign === undefined ? {} : { [SIGNATURE_HEADER]: await sign(body, Math.floor(Date.now() / 1000)) }),
      },
      body,
      signal: AbortSignal.any([signal, timeout]),
      maxAnswerBytes: MAX_RESULT_BYTES,
    });
  } catch (error) {
    if (error instanceof EndpointForbiddenError) {
      // Tried again all the same: a workflow must not end because an operator has yet to set something.
      const message = `POST ${withoutQuery(url)} was not made: ${error.message}`;
      throw ApplicationFailure.create({ message, type: "ActivityEndpointForbidden" });
    }
    const message = timeout.aborted
      ? `POST ${withoutQuery(url)} gave no answer within ${timeoutMs / 1000} s. Answer sooner, or raise ` +
        `its timeout in options`
      : `POST ${withoutQuery(url)} failed: ${reasonOf(error)}. Is the endpoint running and reachable from the worker?`;
    throw ApplicationFailure.create({ message, type: "ActivityEndpointUnreachable" });
  }
}

/** Timers take whole milliseconds, and no more. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

/** A little less than Temporal's own timeout, whose failure could not say what was waited for. */
function patienceMs(timeoutMs: number): number {
  return Math.min(LONGEST_TIMER_MS, Math.floor(timeoutMs - Math.min(1_000, timeoutMs / 10)));
}

function readResult(action: string, answer: HttpAnswer): unknown {
  if (answer.isTruncated) throw tooLarge(action);
  const text = textOf(answer);
  if (text.trim() === "") return null;
  const result = parse(action, text, answer);
  // Written out again it may be longer than it came: 1e20 becomes 100000000000000000000.
  if (text.length > MAX_RESULT_BYTES / 8 && Buffer.byteLength(JSON.stringify(result)) > MAX_RESULT_BYTES) {
    throw tooLarge(action);
  }
  return result;
}

function parse(action: string, text: string, { status, headers }: HttpAnswer): unknown {
  try {
    return JSON.parse(text);
  } catch {
    const encoding = headers["content-encoding"];
    const what = encoding === undefined || encoding === "identity"
      ? `a body that is not JSON: ${excerpt(text)}`
      : `a body in the encoding ${excerpt(encoding)}, which was not asked for`;
    throw refused(`${action} answered ${status} with ${what}. Answer with JSON or nothing`);
  }
}

function tooLarge(action: string): ApplicationFailure {
  return refused(`${action} answered more than 2 MiB. Store the result elsewhere and answer with a reference to it`);
}

function refused(message: string): ApplicationFailure {
  return ApplicationFailure.nonRetryable(message, "ActivityEndpointRefused");
}

/** JSON is UTF-8; a byte order mark, which some servers send, is no part of it. */
function textOf({ body }: HttpAnswer): string {
  return new TextDecoder().decode(body);
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
  const line = visible(text.slice(0, 600).replace(/\s+/g, " ").trim());
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
