import { type ActivityCall, activityCallSchema } from "./activity-call.ts";
import { MIN_SECRET_CHARACTERS, parseSignature, SIGNATURE_HEADER, signatureDigest } from "./activity-signature.ts";
import { formatProblems, problemsOf } from "./problems.ts";

/** A request as it came: web-standard, or its headers and its body to the byte. */
export type ActivityRequest = Request | {
  headers: Headers | Record<string, string | string[] | undefined>;
  /** Raw: JSON that was parsed and written out again may differ. */
  body: string | Uint8Array;
};

export interface VerifyOptions {
  /** `OSP_ACTIVITY_SECRET` of the workers; several while it changes: any of them will do. */
  secret: string | readonly string[];
  /** How far the request's time may be from now, either way: clocks differ, and requests take their time. Default 300. */
  toleranceSeconds?: number | undefined;
}

/** The request is not to be served: answer with `status` and the message, which the workflow's failure then tells. */
export class ActivityRequestError extends Error {
  override readonly name = "ActivityRequestError";
  readonly code: "unsigned" | "wrong_signature" | "wrong_time" | "not_a_call";
  /**
   * 401 and 400 end the workflow. 408 has it tried again: a request that came late, or a clock that is wrong, is no reason
   * to end one.
   */
  readonly status: 400 | 401 | 408;

  constructor(code: ActivityRequestError["code"], status: ActivityRequestError["status"], message: string) {
    super(message);
    this.code = code;
    this.status = status;
  }
}

/**
 * The call of an activity, if a worker with our secret has made it a moment ago.
 *
 * A request that somebody recorded can be sent again within the tolerance, and an honest one may come twice: both bring the
 * same `idempotency_key`, by which an endpoint does nothing twice. One secret serves all services of a deployer: compare
 * `service_schema` and `activity` with what the endpoint is for.
 *
 * @param now milliseconds since 1970
 * @throws {ActivityRequestError} what is wrong with the request
 * @throws {TypeError} what is wrong with how this is called: no secret, a short one, a body that was parsed
 */
export async function verifyActivityRequestAt(
  now: number,
  request: ActivityRequest,
  options: VerifyOptions,
): Promise<ActivityCall> {
  const secrets = secretsOf(options.secret);
  const body = await readBody(request);
  const { signedAt, digests } = readSignature(headerOf(request));
  const expected = await Promise.all(secrets.map((secret) => signatureDigest(body, secret, signedAt)));
  if (!expected.map((digest) => isAmong(digest, digests)).includes(true)) {
    throw new ActivityRequestError(
      "wrong_signature",
      401,
      "The signature is not that of this body: another OSP_ACTIVITY_SECRET made it, or something changed the body on its way",
    );
  }
  checkTime(signedAt, now, options.toleranceSeconds ?? 300);
  return parseActivityCall(body);
}

function secretsOf(secret: string | readonly string[]): readonly string[] {
  const secrets = typeof secret === "string" ? [secret] : secret;
  if (!Array.isArray(secrets) || secrets.length === 0) throw new TypeError("verifyActivityRequest needs a secret");
  if (secrets.some((one) => typeof one !== "string" || one.trim().length < MIN_SECRET_CHARACTERS)) {
    throw new TypeError(`A secret of activities has at least ${MIN_SECRET_CHARACTERS} characters`);
  }
  return secrets;
}

async function readBody(request: ActivityRequest): Promise<Uint8Array> {
  if ("arrayBuffer" in request) {
    if (request.bodyUsed) throw new TypeError("The request's body was read already: verify first, it returns the call");
    return new Uint8Array(await request.arrayBuffer());
  }
  const { body } = request;
  if (typeof body === "string") return new TextEncoder().encode(body);
  if (body instanceof Uint8Array) return body;
  throw new TypeError("The body must be raw, as bytes or text: it was parsed already");
}

function headerOf({ headers }: ActivityRequest): string | undefined {
  if (isHeaders(headers)) return headers.get(SIGNATURE_HEADER) ?? undefined;
  const found = Object.entries(headers).find(([name]) => name.toLowerCase() === SIGNATURE_HEADER)?.[1];
  return Array.isArray(found) ? found.join(",") : found;
}

/** Also those of another library than the runtime's own. */
function isHeaders(headers: ActivityRequest["headers"]): headers is Headers {
  return typeof headers.get === "function";
}

function readSignature(header: string | undefined) {
  if (header === undefined) {
    throw new ActivityRequestError(
      "unsigned",
      401,
      `There is no header ${SIGNATURE_HEADER}: set OSP_ACTIVITY_SECRET for the deployer of the workers`,
    );
  }
  const signature = parseSignature(header);
  if (signature !== undefined) return signature;
  throw new ActivityRequestError("unsigned", 401, `The header ${SIGNATURE_HEADER} is no signature: t=…,v1=… is one`);
}

/** Takes the same time wherever they differ. */
function isAmong(expected: string, digests: string[]): boolean {
  return digests.map((digest) => isSame(digest, expected)).includes(true);
}

function isSame(one: string, other: string): boolean {
  let difference = one.length ^ other.length;
  for (let index = 0; index < other.length; index++) difference |= one.charCodeAt(index) ^ other.charCodeAt(index);
  return difference === 0;
}

function checkTime(signedAt: number, now: number, toleranceSeconds: number): void {
  const age = Math.round(now / 1000 - signedAt);
  if (Math.abs(age) <= toleranceSeconds) return;
  const when = age > 0 ? `${age} s ago` : `${-age} s in the future`;
  throw new ActivityRequestError(
    "wrong_time",
    408,
    `The request was signed ${when}, ${toleranceSeconds} s are allowed: it came late, was sent again, or a clock is wrong`,
  );
}

/** @throws {ActivityRequestError} */
export function parseActivityCall(bytes: Uint8Array): ActivityCall {
  let body: unknown;
  try {
    body = JSON.parse(new TextDecoder().decode(bytes));
  } catch {
    throw new ActivityRequestError("not_a_call", 400, "The body must be JSON");
  }
  const call = activityCallSchema.safeParse(body);
  if (call.success) return call.data;
  const problems = formatProblems(problemsOf(call.error, body));
  throw new ActivityRequestError("not_a_call", 400, `Not a call of an activity: ${problems}`);
}
