import { describe, expect, test } from "vitest";
import { z } from "zod";
import { canonicalJson } from "../../supabase/functions/_shared/canonical-json.ts";
import { formatError, problemsOf, storable, tellProblems } from "../../supabase/functions/_shared/problems.ts";
import { visible } from "../../supabase/functions/_shared/visible-text.ts";

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

test("what acts where it is shown stands as its escape; a text of many lines keeps its lines", () => {
  const given = "\u001b[2Jred\u009b0m\r\n\ttab \u202eturned\u2028 a\u200bb \0 \ud800 \u00e9 \u{1f469}\u200d\u{1f466}";
  const shown = String.raw`\u001b[2Jred\u009b0m\u000d` + "\n\ttab " +
    String.raw`\u202eturned\u2028 a\u200bb \u0000` + " \ufffd \u00e9 \u{1f469}\u200d\u{1f466}";
  expect(storable(given)).toBe(shown);
  expect(visible(given)).toBe(shown.replace("\n", "\\u000a").replace("\t", "\\u0009"));
  expect(formatError(new Error("a\u001b[2J\nb\u202e"))).toBe(String.raw`a\u001b[2J b\u202e`);
});

test("problems are told up to thirty, and how many there are beyond", () => {
  const many = Array.from({ length: 45 }, (_, place) => ({ path: `a[${place}]`, message: "is wrong" }));
  expect(tellProblems(many)).toHaveLength(31);
  expect(tellProblems(many).at(-1)).toBe("and 15 more problems");
  expect(tellProblems(many.slice(0, 30))).toHaveLength(30);
});

test("canonical JSON ends where a value is nested too deep, not with the stack", () => {
  const nest = (depth: number): unknown => JSON.parse("[".repeat(depth) + "]".repeat(depth));
  expect(canonicalJson(nest(100))).toBe("[".repeat(100) + "]".repeat(100));
  for (const depth of [102, 10_000, 100_000]) {
    expect(() => canonicalJson(nest(depth))).toThrow(/nested more than 100 deep/);
  }
});
