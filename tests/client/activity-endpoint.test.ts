import { createHmac } from "node:crypto";
import { describe, expect, test } from "vitest";
import { type ActivityRequest, ActivityRequestError, verifyActivityRequest } from "../../client/activity-endpoint.ts";
import { verifyActivityRequestAt } from "../../supabase/functions/_shared/verify-activity-request.ts";

const SECRET = "of-the-activities-of-a-test";
const OTHER = "of-somebody-else-altogether";
const NOW = 1_795_699_223;
const call = {
  service_schema: "my_service",
  revision: 3,
  workflow_id: "w-1",
  run_id: "01a21803-ab5b-7d5b-a95f-46bbc3c11b7b",
  workflow_type: "doIt",
  activity: "first",
  attempt: 1,
  idempotency_key: "01a21803-ab5b-7d5b-a95f-46bbc3c11b7b/2",
  input: { name: "Zoë 🍜" },
};
const BODY = JSON.stringify(call);

/** As the document says, by another implementation than ours. */
const digest = (body: string | Buffer, secret = SECRET, time = NOW) =>
  createHmac("sha256", secret).update(`${time}.`).update(body).digest("hex");
const signature = (body: string | Buffer = BODY, secret = SECRET, time = NOW) =>
  `t=${time},v1=${digest(body, secret, time)}`;
const signed = (header: string | undefined, body: string | Uint8Array = BODY): ActivityRequest => ({
  headers: { "X-Osp-Signature": header },
  body,
});
const verify = (request: ActivityRequest, options = {}) =>
  verifyActivityRequestAt(NOW * 1000, request, { secret: SECRET, ...options });
const refusal = async (request: ActivityRequest, options = {}) =>
  await verify(request, options).then(
    () => "it was accepted",
    (error: unknown) => (error instanceof ActivityRequestError ? error : String(error)),
  );

describe("a request that a worker made is its call", () => {
  const headers = { "x-osp-signature": signature() };
  const url = "https://osp.example/my_service/first";
  test.each<[string, ActivityRequest]>([
    ["as a web-standard request", new Request(url, { method: "POST", headers, body: BODY })],
    ["as headers of Node and a text", { headers, body: BODY }],
    ["as bytes", { headers: new Headers(headers), body: new TextEncoder().encode(BODY) }],
    ["as a Buffer", { headers, body: Buffer.from(BODY) }],
    ["with a header that came in two parts", { headers: { "x-osp-signature": signature().split(",") }, body: BODY }],
  ])("%s", async (_, request) => {
    expect(await verify(request)).toEqual(call);
  });

  test("with members that later workers add", async () => {
    const body = JSON.stringify({ ...call, later: true });
    expect(await verify(signed(`${signature(body)},v2=of-later`, body))).toEqual({ ...call, later: true });
  });

  test("whatever blanks stand around the secret", async () => {
    expect(await verify(signed(signature()), { secret: `\n ${SECRET} ` })).toEqual(call);
  });

  test("up to the tolerance, either way", async () => {
    for (const time of [NOW - 300, NOW + 300]) {
      expect(await verify(signed(signature(BODY, SECRET, time)))).toEqual(call);
    }
    const hour = signature(BODY, SECRET, NOW - 3600);
    expect(await verify(signed(hour), { toleranceSeconds: 3600 })).toEqual(call);
  });
});

test("while the secret changes, either side may be first", async () => {
  const both = `t=${NOW},v1=${digest(BODY, "the-new-secret-of-all-workers")},v1=${digest(BODY)}`;
  expect(await verify(signed(both))).toEqual(call);
  expect(await verify(signed(both), { secret: "the-new-secret-of-all-workers" })).toEqual(call);
  expect(await verify(signed(signature()), { secret: ["the-new-secret-of-all-workers", SECRET] })).toEqual(call);
  expect(await refusal(signed(both), { secret: OTHER })).toMatchObject({ code: "wrong_signature" });
});

describe("what no worker of ours made is refused", () => {
  const late = signature(BODY, SECRET, NOW - 301);
  const early = signature(BODY, SECRET, NOW + 301);
  test.each<[string, ActivityRequest, object]>([
    ["without a signature", signed(undefined), { code: "unsigned", status: 401, message: /set OSP_ACTIVITY_SECRET/ }],
    ["with another secret's", signed(signature(BODY, OTHER)), {
      code: "wrong_signature",
      status: 401,
      message: /another OSP_ACTIVITY_SECRET/,
    }],
    ["with another body", signed(signature(), BODY.replace("w-1", "w-2")), { code: "wrong_signature" }],
    ["with a body that was written anew", signed(signature(), JSON.stringify(call, undefined, 1)), {
      code: "wrong_signature",
    }],
    ["with another time", signed(`t=${NOW + 1},v1=${digest(BODY)}`), { code: "wrong_signature" }],
    ["with half a digest", signed(signature().slice(0, -32)), { code: "unsigned" }],
    ["with a digest in capitals", signed(`t=${NOW},v1=${digest(BODY).toUpperCase()}`), { code: "unsigned" }],
    ["with a digest of another version", signed(`t=${NOW},v0=${digest(BODY)}`), { code: "unsigned" }],
    ["with two times", signed(`t=1,${signature()}`), { code: "unsigned" }],
    ["with a time that is none", signed(`t=now,v1=${digest(BODY)}`), { code: "unsigned" }],
    ["with a header of nothing", signed(""), { code: "unsigned", message: /is no signature/ }],
    ["too late", signed(late), { code: "wrong_time", status: 408, message: /signed 301 s ago, 300 s are allowed/ }],
    ["too early", signed(early), { code: "wrong_time", status: 408, message: /signed 301 s in the future/ }],
    ["what is no JSON", signed(signature("{"), "{"), { code: "not_a_call", status: 400, message: /must be JSON/ }],
    ["what is no call", signed(signature("{}"), "{}"), {
      code: "not_a_call",
      status: 400,
      message: /Not a call of an activity: service_schema: must be a string; revision/,
    }],
  ])("%s", async (_, request, expected: { message?: RegExp }) => {
    const { message = /./, ...rest } = expected;
    expect(await refusal(request)).toMatchObject({ ...rest, message: expect.stringMatching(message) });
  });

  test("a flood of digests is refused", async () => {
    const many = `t=${NOW}${`,v1=${"0".repeat(64)}`.repeat(200)}`;
    expect(await refusal(signed(many))).toMatchObject({ code: "wrong_signature" });
  });
});

test("the client goes by this machine's clock", async () => {
  const time = Math.floor(Date.now() / 1000);
  expect(await verifyActivityRequest(signed(signature(BODY, SECRET, time)), { secret: SECRET })).toEqual(call);
  const old = verifyActivityRequest(signed(signature(BODY, SECRET, time - 1000)), { secret: SECRET });
  await expect(old).rejects.toMatchObject({ code: "wrong_time" });
});

test.each<[string, () => Promise<unknown>, RegExp]>([
  ["no secret", () => verify(signed(signature()), { secret: [] }), /needs a secret/],
  ["an undefined secret", () => verify(signed(signature()), { secret: undefined }), /needs a secret/],
  ["an empty secret", () => verify(signed(signature()), { secret: "" }), /at least 16 characters/],
  [
    "a short secret among others",
    () => verify(signed(signature()), { secret: [SECRET, "short"] }),
    /at least 16 characters/,
  ],
  [
    "a body that was parsed",
    // Callers in JavaScript have no compiler that stops them.
    () => Reflect.apply(verifyActivityRequest, undefined, [{ headers: {}, body: call }, { secret: SECRET }]),
    /must be raw/,
  ],
  [
    "a body that was read",
    async () => {
      const request = new Request("https://osp.example/", { method: "POST", body: BODY });
      await request.json();
      return await verify(request);
    },
    /verify first/,
  ],
])("%s is the caller's mistake", async (_, attempt, told) => {
  await expect(attempt()).rejects.toThrow(TypeError);
  await expect(attempt()).rejects.toThrow(told);
});
