import { expect, test } from "vitest";
import { importProblems } from "../../scripts/check-imports.ts";

const from = (specifier: string) => `import { x } from "${specifier}";\n`;

test.each([
  ["deployer/main.ts", "./config.ts"],
  ["deployer/platforms/local/strays.ts", "../platform.ts"],
  ["deployer/main.ts", "../host/process-identity.ts"],
  ["worker/read-manifest.ts", "../supabase/functions/_shared/manifest.ts"],
  ["client/index.ts", "@supabase/supabase-js"],
  ["local/postgres.ts", "node:fs/promises"],
  ["host/cache-directory.ts", "node:os"],
  ["host/process-identity.ts", "zod"],
  ["supabase/functions/_shared/manifest.ts", "zod"],
  ["supabase/functions/_shared/manifest.ts", "./problems.ts"],
  ["supabase/functions/queue-worker-build/handler.ts", "../_shared/manifest.ts"],
  ["worker/service/workflows.ts", "@temporalio/workflow"],
  ["worker/service/workflows.ts", "../../supabase/functions/_shared/manifest.ts"],
  ["tests/worker/replay.test.ts", "../../deployer/config.ts"],
])("%s may import %s", (path, specifier) => {
  expect(importProblems(path, from(specifier))).toEqual([]);
});

test.each([
  ["deployer/main.ts", "../worker/config.ts"],
  ["worker/launch-worker.ts", "../deployer/config.ts"],
  ["local/main.ts", "../deployer/main.ts"],
  ["client/index.ts", "../tests/support/postgres.ts"],
  ["host/cache-directory.ts", "execa"],
  ["host/cache-directory.ts", "../local/postgres.ts"],
  ["supabase/functions/_shared/manifest.ts", "node:crypto"],
  ["supabase/functions/_shared/manifest.ts", "../queue-worker-build/handler.ts"],
  ["supabase/functions/queue-worker-build/handler.ts", "../../../host/cache-directory.ts"],
  ["worker/service/workflows.ts", "./activities.ts"],
  ["worker/service/workflows.ts", "node:fs"],
])("%s must not import %s", (path, specifier) => {
  expect(importProblems(path, from(specifier))).toEqual([
    expect.stringContaining(`${path}:1 must not import "${specifier}": `),
  ]);
});

test.each([
  ["a re-export", `export * from "../worker/a.ts";`],
  ["several lines", `import {\n  type A,\n  b,\n} from "../worker/a.ts";`],
  ["a type", `import type { A } from "../worker/a.ts";`],
  ["a namespace", `import * as a from "../worker/a.ts";`],
  ["a side effect", `import "../worker/a.ts";`],
  ["a dynamic import", `const a = await import("../worker/a.ts");`],
])("%s is an import", (_, source) => {
  expect(importProblems("deployer/main.ts", source)).toHaveLength(1);
});

test("the line told is that of the specifier", () => {
  const source = `// import { a } from "../worker/a.ts";\n\nimport {\n  b,\n} from "../worker/b.ts";\n`;
  expect(importProblems("deployer/main.ts", source)).toEqual([expect.stringMatching(/^deployer\/main\.ts:5 /)]);
});

test("a path to another room's program is no import", () => {
  const source = `const program = fileURLToPath(new URL("../deployer/main.ts", import.meta.url));\n`;
  expect(importProblems("local/main.ts", source)).toEqual([]);
});

test("workflows may import types of anything", () => {
  const source = `import type * as activities from "./activities.ts";\n`;
  expect(importProblems("worker/service/workflows.ts", source)).toEqual([]);
});

test("a line may be an exception, with its reason", () => {
  const line = `import { a } from "../worker/a.ts"; // check-allow:`;
  expect(importProblems("deployer/main.ts", `${line} shared until the next release`)).toEqual([]);
  expect(importProblems("deployer/main.ts", line)).toHaveLength(1);
});
