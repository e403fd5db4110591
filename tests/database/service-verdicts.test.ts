import fc from "fast-check";
import { expect, test } from "vitest";
import { problemsOf } from "../../supabase/functions/_shared/problems.ts";
import { serviceSchema } from "../../supabase/functions/_shared/service.ts";
import { visible } from "../../supabase/functions/_shared/visible-text.ts";
import { refusal, useDatabase } from "../support/database.ts";

// What no table of cases thought of: rows at random, most of them almost right. A failure tells seed and path to see it again.
const database = useDatabase();

const text = fc.oneof(
  fc.string({ unit: "binary", maxLength: 12 }),
  fc.string({ unit: "grapheme", maxLength: 12 }),
  fc.constantFrom(
    "__proto__",
    "constructor",
    "default",
    "__osp_x",
    "__temporal_x",
    "--help",
    "../x",
    "a\u202eb",
    "\u200d",
    " ",
  ),
);
const identifier = fc.stringMatching(/^[A-Za-z_$][A-Za-z0-9_$]{0,6}$/);
const anything = fc.jsonValue({ maxDepth: 3, stringUnit: "binary" });
/** Mostly what is right, so that rows come far enough to meet every rule. */
const mostly = <Value>(right: fc.Arbitrary<Value>, wrong: fc.Arbitrary<unknown> = anything) =>
  fc.oneof({ weight: 12, arbitrary: right }, { weight: 1, arbitrary: wrong });

const codeName = mostly(identifier, fc.oneof(text, anything));
const workflow = mostly(fc.record({
  name: codeName,
  activities: mostly(fc.array(codeName, { minLength: 1, maxLength: 4 })),
}));
const option = {
  activity_endpoint: mostly(fc.webUrl(), fc.oneof(text, anything)),
  activity_timeout_seconds: mostly(fc.integer({ min: 1, max: 86_400 }), fc.oneof(fc.double(), anything)),
  activity_max_attempts: mostly(fc.integer({ min: 1, max: 1000 }), fc.oneof(fc.double(), anything)),
};
const row = fc.record({
  service_schema: mostly(fc.stringMatching(/^[a-z][a-z0-9_]{0,9}$/), text),
  service_name: mostly(fc.string({ unit: "grapheme", minLength: 1, maxLength: 20 }), text),
  workflows: mostly(fc.array(workflow, { minLength: 1, maxLength: 3 })),
  options: mostly(fc.record(option, { requiredKeys: [] }), fc.oneof(fc.dictionary(text, anything), anything)),
});

test("SQL and zod judge alike, but for what is zod's alone to say of options", async () => {
  let accepted = 0;
  await fc.assert(
    fc.asyncProperty(row, async (given) => {
      const parsed = serviceSchema.safeParse(JSON.parse(JSON.stringify(given)));
      const problems = parsed.success ? [] : problemsOf(parsed.error, given);
      const verdict = await askSql(given);
      for (const { path, message } of problems) expect(`${path} ${message}`).toBe(visible(`${path} ${message}`));
      if (verdict === undefined) {
        accepted++;
        expect(problems.filter(({ path }) => !path.startsWith("options"))).toEqual([]);
        return;
      }
      expect(problems).not.toEqual([]);
      // Postgres cannot read some JSON at all, NUL for one.
      if (verdict.code !== "23514") {
        expect(verdict.code).toMatch(/^22/);
        return;
      }
      expect(verdict.message).toBe(visible(verdict.message));
      const path = verdict.message.slice(0, verdict.message.indexOf(": "));
      // zod looks for doubles only where the rest of a list is right.
      if (verdict.message.endsWith("stands twice")) return;
      // Of numbers and depth SQL says that they are somewhere in options.
      const told = problems.map((problem) => (path === "options" ? problem.path.split(".")[0] : problem.path));
      expect(told).toContain(path);
    }),
    { numRuns: 250 },
  );
  expect(accepted).toBeGreaterThan(20); // else it would have compared refusals alone
});

async function askSql(
  { service_schema, service_name, workflows, options }: typeof row extends fc.Arbitrary<infer Row> ? Row : never,
) {
  const asked = database.rows(`select osp.is_valid_service($1, $2, $3, $4)`, [
    service_schema,
    service_name,
    JSON.stringify(workflows),
    JSON.stringify(options),
  ]);
  return await asked.then(() => undefined, () => refusal(asked));
}
