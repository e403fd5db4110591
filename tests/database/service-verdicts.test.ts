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
const limited = (least: number, most: number) =>
  mostly(fc.oneof(fc.constantFrom(least, most), fc.integer({ min: Math.ceil(least), max: most })), wrongNumber);
const wrongNumber = fc.oneof(fc.double(), fc.constantFrom(0, -1, 0.5, 1e6, 2 ** 53), anything);
const endpoint = mostly(fc.webUrl(), fc.oneof(text, anything));
const retry = mostly(fc.record({
  initial_interval_seconds: limited(0.001, 86_400),
  backoff_coefficient: limited(1, 100),
  maximum_interval_seconds: limited(0.001, 86_400),
}, { requiredKeys: [] }));
const activityOptions = mostly(fc.record({
  endpoint,
  timeout_seconds: limited(1, 86_400),
  max_attempts: limited(1, 1000),
  retry,
}, { requiredKeys: [] }));
const optionsFor = (names: string[]) => ({
  activity_endpoint: endpoint,
  activity_timeout_seconds: limited(1, 86_400),
  activity_max_attempts: limited(1, 1000),
  activity_retry: retry,
  max_concurrent_activities: limited(1, 1000),
  max_activities_per_second: limited(0.01, 100_000),
  max_task_queue_activities_per_second: limited(0.01, 100_000),
  replicas: limited(1, 50),
  activities: mostly(fc.dictionary(
    fc.oneof({ weight: 12, arbitrary: names.length === 0 ? text : fc.constantFrom(...names) }, text, identifier),
    activityOptions,
    { maxKeys: 3 },
  )),
});
const withOptions = <Row extends { workflows: unknown }>(given: Row) => {
  const workflows: unknown[] = Array.isArray(given.workflows) ? given.workflows : [];
  const names = workflows.flatMap((one): unknown => Object(one).activities).filter((name) => typeof name === "string");
  const right = fc.record(optionsFor(names), { requiredKeys: [] });
  return mostly(right, fc.oneof(fc.dictionary(text, anything), anything)).map((made) => ({ ...given, options: made }));
};
const row = fc.record({
  service_schema: mostly(fc.stringMatching(/^[a-z][a-z0-9_]{0,9}$/), text),
  service_name: mostly(fc.string({ unit: "grapheme", minLength: 1, maxLength: 20 }), text),
  workflows: mostly(fc.array(workflow, { minLength: 1, maxLength: 3 })),
}).chain(withOptions);

test("SQL and zod judge alike, but for URLs and unknown options, which zod alone knows", async () => {
  let [accepted, refusedOptions] = [0, 0];
  await fc.assert(
    fc.asyncProperty(row, async (given) => {
      const parsed = serviceSchema.safeParse(JSON.parse(JSON.stringify(given)));
      const problems = parsed.success ? [] : problemsOf(parsed.error, given);
      const verdict = await askSql(given);
      for (const { path, message } of problems) expect(`${path} ${message}`).toBe(visible(`${path} ${message}`));
      if (verdict === undefined) {
        accepted++;
        const isOfZod = ({ path }: { path: string }) => path === "options" || /^options\..*endpoint$/.test(path);
        expect(problems.filter((problem) => !isOfZod(problem))).toEqual([]);
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
      if (!path.startsWith("options.")) return;
      refusedOptions++;
      // zod has a word of its own for what it does not know, and for whole numbers that JavaScript cannot count.
      const [rule = ""] = /(must (?!be from)|is no activity).*$/.exec(verdict.message) ?? [];
      expect(problems.filter((problem) => problem.path === path).map(({ message }) => message).join()).toContain(rule);
    }),
    { numRuns: 600 },
  );
  expect(accepted).toBeGreaterThan(20); // else it would have compared refusals alone
  expect(refusedOptions).toBeGreaterThan(5);
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
