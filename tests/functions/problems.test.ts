import { describe, expect, test } from "vitest";
import { z } from "zod";
import { formatError, problemsOf } from "../../supabase/functions/_shared/problems.ts";

describe("an error of any shape has a message", () => {
  const circular: Record<string, unknown> = { message: "it broke" };
  circular["self"] = circular;
  const first = new Error("first");
  first.cause = new Error("second", { cause: first });

  test.each([
    ["a text", "away", "away"],
    ["null", null, "null"],
    ["nothing", undefined, "undefined"],
    ["a number", 7, "7"],
    ["a bigint", 7n, "bigint"],
    ["a function", () => {}, "function"],
    ["an object", { code: "08006" }, '{"code":"08006"}'],
    ["a circular object", circular, "object"],
    ["a circular cause", new Error("outer", { cause: circular }), "outer: object"],
    ["causes in a circle", first, "first: second"],
    ["an error without a message", new TypeError(), "TypeError"],
  ])("%s", (_title, error, message) => {
    expect(formatError(error)).toBe(message);
  });
});

test.each([
  ["a bigint", 7n, "bigint must be a text"],
  ["a symbol", Symbol("s"), "symbol must be a text"],
  ["a text", "seven", '"seven" must be a text'],
])("%s that breaks a rule is quoted as far as it can be", (_title, value, message) => {
  const { error } = z.object({ name: z.never("must be a text") }).safeParse({ name: value });
  expect(error && problemsOf(error, { name: value })).toEqual([{ path: "name", message }]);
});
