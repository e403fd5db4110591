import { visible } from "../../supabase/functions/_shared/visible-text.ts";
import type { ServiceCase } from "./service-cases.ts";

const good = {
  service_schema: "good_service_1",
  service_name: "Good",
  workflows: [{ name: "doWork", activities: ["first"] }],
};

const accepted = [
  { activity_retry: {} },
  { activity_retry: { initial_interval_seconds: 0.001, backoff_coefficient: 1, maximum_interval_seconds: 86_400 } },
  { activity_retry: { initial_interval_seconds: 5, maximum_interval_seconds: 5 } },
  { max_concurrent_activities: 1000, max_activities_per_second: 0.01, max_task_queue_activities_per_second: 100_000 },
  { replicas: 50 },
  { activities: {} },
  { replay_gate: false },
  { activities: { first: {} } },
  {
    activities: {
      first: {
        endpoint: "https://example.com/{activity}",
        timeout_seconds: 86_400,
        max_attempts: 1,
        retry: { backoff_coefficient: 1.5 },
        max_concurrent: 1,
        max_per_second: 0.5,
        max_task_queue_per_second: 100_000,
      },
    },
  },
  // What is longer comes of the two together, and not of either.
  {
    activity_retry: { maximum_interval_seconds: 5 },
    activities: { first: { retry: { initial_interval_seconds: 10 } } },
  },
];
const ranges = [
  ["activity_timeout_seconds", 1, 86_400],
  ["activity_max_attempts", 1, 1000],
  ["activity_retry.initial_interval_seconds", 0.001, 86_400],
  ["activity_retry.backoff_coefficient", 1, 100],
  ["activity_retry.maximum_interval_seconds", 0.001, 86_400],
  ["max_concurrent_activities", 1, 1000],
  ["max_activities_per_second", 0.01, 100_000],
  ["max_task_queue_activities_per_second", 0.01, 100_000],
  ["replicas", 1, 50],
  ["activities.first.timeout_seconds", 1, 86_400],
  ["activities.first.max_attempts", 1, 1000],
  ["activities.first.retry.backoff_coefficient", 1, 100],
  ["activities.first.max_concurrent", 1, 1000],
  ["activities.first.max_per_second", 0.01, 100_000],
  ["activities.first.max_task_queue_per_second", 0.01, 100_000],
] as const;
const wrong = [
  ["activity_endpoint", 7, "must be a string"],
  ["activity_endpoint", `https://example.com/${"x".repeat(2048)}`, "must have at most 2048 characters"],
  ["activities.first.endpoint", null, "must be a string"],
  ["activities.first.timeout_seconds", 1.5, "must be a whole number of seconds"],
  ["activities.first.max_attempts", "3", "must be a whole number"],
  ["activities.first.max_concurrent", 2.5, "must be a whole number"],
  ["activities.first.max_per_second", "2", "must be a number"],
  ["activity_max_attempts", true, "must be a whole number"],
  ["max_activities_per_second", "10", "must be a number"],
  ["replicas", 2.5, "must be a whole number"],
  ["replay_gate", "false", "must be true or false"],
  ["replay_gate", 0, "must be true or false"],
  ["activity_retry", 5, "must be an object"],
  ["activity_retry", null, "must be an object"],
  ["activities", [], "must be an object of activities and their options"],
  ["activities.first", "quick", "must be an object"],
  ["activities.first.retry", ["1s"], "must be an object"],
] as const;
const unknown = [
  [{ activity_retry: { jitter: 1 } }, "options.activity_retry", "jitter"],
  [
    { activities: { first: { activity_timeout_seconds: 5 } } },
    "options.activities.first",
    "activity_timeout_seconds",
  ],
  [{ activities: { first: { retry: { initial: 5 } } } }, "options.activities.first.retry", "initial"],
] as const;
const refuse = (path: string, value: unknown, rule: string): ServiceCase => ({
  title: `options.${path} of ${visible(String(value)).slice(0, 40)}`,
  row: { ...good, options: at(path, value) },
  refused: { path: `options.${path}`, rule: new RegExp(`${RegExp.escape(rule)}$`) },
});

/** Of each option of a service: what it takes, the ends of its range, and what is beyond. */
export const optionCases: ServiceCase[] = [
  ...accepted.map((options) => ({ title: `options ${JSON.stringify(options)}`, row: { ...good, options } })),
  ...ranges.flatMap(([path, least, most]) => [
    ...[least, most].map((value) => ({
      title: `options.${path} of ${value}`,
      row: { ...good, options: at(path, value) },
    })),
    ...[0, -1, most + 1].map((value) => refuse(path, value, `must be from ${least} to ${most}`)),
  ]),
  ...wrong.map(([path, value, rule]) => refuse(path, value, rule)),
  ...unknown.map(([options, path, key]) => ({
    title: `an unknown ${path}.${key}`,
    row: { ...good, options },
    refused: { path, rule: new RegExp(`"${key}"`) },
  })),
  ...[20, 21].map((limited) => ({
    title: `limits for ${limited} activities`,
    row: {
      ...good,
      workflows: [{ name: "doWork", activities: namesOf(limited) }],
      options: { activities: Object.fromEntries(namesOf(limited).map((name) => [name, { max_per_second: 1 }])) },
    },
    ...(limited > 20 ? { refused: { path: "options.activities", rule: /must limit at most 20 activities$/ } } : {}),
  })),
  {
    title: "a longest wait below the first one",
    row: { ...good, options: { activity_retry: { initial_interval_seconds: 5, maximum_interval_seconds: 4.9 } } },
    refused: {
      path: "options.activity_retry.maximum_interval_seconds",
      rule: /4.9 must not be less than initial_interval_seconds$/,
    },
  },
];

function namesOf(count: number): string[] {
  return Array.from({ length: count }, (_, index) => `activity${index}`);
}

/** `a.b` of 1: `{a: {b: 1}}`. */
function at(path: string, value: unknown): Record<string, unknown> {
  const [key = "", ...rest] = path.split(".");
  return { [key]: rest.length === 0 ? value : at(rest.join("."), value) };
}
