/** One table of cases for both judges of a row: the SQL of osp.services and the zod schema of the core. */
export interface ServiceCase {
  title: string;
  row: Record<string, unknown>;
  /** Where the row is refused and by which rule; undefined: it is accepted. */
  refused?: { path: string; rule: RegExp };
  /** What only zod sees: SQL accepts it, and the revision ends as `failed`. */
  onlyZod?: boolean;
}

const good = {
  service_schema: "good_service_1",
  service_name: "Good",
  workflows: [{ name: "doWork", activities: ["first"] }],
  options: {},
};
const named = (name: unknown) => ({ ...good, workflows: [{ name, activities: ["first"] }] });
const acting = (activities: unknown) => ({ ...good, workflows: [{ name: "doWork", activities }] });
const many = (count: number, prefix: string) => Array.from({ length: count }, (_, index) => `${prefix}${index}`);
const identifier = /must match/;

export const serviceCases: ServiceCase[] = [
  { title: "the least that works", row: good },
  { title: "100 workflows", row: { ...good, workflows: many(100, "w").map((name) => ({ name, activities: ["a"] })) } },
  { title: "100 activities", row: acting(many(100, "a")) },
  { title: "names with $ and _ of 128 characters", row: named(`$_${"a".repeat(126)}`) },
  { title: "a name for people in any script", row: { ...good, service_name: 'レストラン 🍜 d\'Or "x" \\ ../' } },
  { title: "200 characters that are two UTF-16 units each", row: { ...good, service_name: "🍜".repeat(200) } },
  {
    title: "an endpoint",
    row: { ...good, options: { activity_endpoint: "https://example.com/{service_schema}/{activity}" } },
  },
  {
    title: "one activity in two workflows",
    row: { ...good, workflows: [{ name: "a", activities: ["x"] }, { name: "b", activities: ["x"] }] },
  },

  {
    title: "a schema of 64 characters",
    row: { ...good, service_schema: "a".repeat(64) },
    refused: { path: "service_schema", rule: identifier },
  },
  {
    title: "an empty schema",
    row: { ...good, service_schema: "" },
    refused: { path: "service_schema", rule: identifier },
  },
  {
    title: "a schema with a slash",
    row: { ...good, service_schema: "a/b" },
    refused: { path: "service_schema", rule: identifier },
  },
  {
    title: "a schema of dots",
    row: { ...good, service_schema: ".." },
    refused: { path: "service_schema", rule: identifier },
  },
  {
    title: "a schema with a quote",
    row: { ...good, service_schema: "a'; drop table x; --" },
    refused: { path: "service_schema", rule: identifier },
  },
  {
    title: "a schema with an umlaut",
    row: { ...good, service_schema: "größe" },
    refused: { path: "service_schema", rule: identifier },
  },
  {
    title: "a schema in capitals",
    row: { ...good, service_schema: "Service" },
    refused: { path: "service_schema", rule: identifier },
  },
  {
    title: "a schema that ends in a line feed",
    row: { ...good, service_schema: "a\n" },
    refused: { path: "service_schema", rule: identifier },
  },
  { title: "no schema", row: { ...good, service_schema: null }, refused: { path: "service_schema", rule: /must/ } },
  { title: "no name", row: { ...good, service_name: null }, refused: { path: "service_name", rule: /must/ } },
  {
    title: "an empty name",
    row: { ...good, service_name: "" },
    refused: { path: "service_name", rule: /1 to 200 characters/ },
  },
  { title: "a blank name", row: { ...good, service_name: "   " }, refused: { path: "service_name", rule: /blank/ } },
  {
    title: "a name of 201 characters",
    row: { ...good, service_name: "x".repeat(201) },
    refused: { path: "service_name", rule: /1 to 200 characters/ },
  },
  {
    title: "a name with a line feed",
    row: { ...good, service_name: "a\nb" },
    refused: { path: "service_name", rule: /control characters/ },
  },

  {
    title: "no workflows",
    row: { ...good, workflows: null },
    refused: { path: "workflows", rule: /must be an array/ },
  },
  {
    title: "workflows as an object",
    row: { ...good, workflows: {} },
    refused: { path: "workflows", rule: /must be an array/ },
  },
  {
    title: "workflows as a text",
    row: { ...good, workflows: "doWork" },
    refused: { path: "workflows", rule: /must be an array/ },
  },
  {
    title: "an empty list of workflows",
    row: { ...good, workflows: [] },
    refused: { path: "workflows", rule: /1 to 100 entries/ },
  },
  {
    title: "1,000 workflows",
    row: { ...good, workflows: many(1000, "w").map((name) => ({ name, activities: ["a"] })) },
    refused: { path: "workflows", rule: /1 to 100 entries/ },
  },
  {
    title: "a workflow that is a text",
    row: { ...good, workflows: ["doWork"] },
    refused: { path: "workflows[0]", rule: /must be an object/ },
  },
  {
    title: "a workflow with an unknown key",
    row: { ...good, workflows: [{ name: "a", activities: ["x"], queue: "q" }] },
    refused: { path: "workflows[0]", rule: /queue/ },
  },
  {
    title: "a workflow without a name",
    row: { ...good, workflows: [{ activities: ["x"] }] },
    refused: { path: "workflows[0].name", rule: /must be a string/ },
  },
  {
    title: "a workflow whose name is a number",
    row: named(7),
    refused: { path: "workflows[0].name", rule: /must be a string/ },
  },
  {
    title: "a workflow name with a hyphen",
    row: named("do-work"),
    refused: { path: "workflows[0].name", rule: identifier },
  },
  {
    title: "a workflow name that is a path",
    row: named("../../etc"),
    refused: { path: "workflows[0].name", rule: identifier },
  },
  {
    title: "a workflow name of 129 characters",
    row: named("a".repeat(129)),
    refused: { path: "workflows[0].name", rule: identifier },
  },
  {
    title: "a name that Temporal keeps for itself",
    row: named("__temporal_x"),
    refused: { path: "workflows[0].name", rule: /reserved/ },
  },
  ...["constructor", "__proto__", "toString", "default"].map((name) => ({
    title: `a workflow and an activity named ${name}`,
    row: named(name),
    refused: { path: "workflows[0].name", rule: /reserved/ },
  })),
  {
    title: "two workflows of one name",
    row: { ...good, workflows: [{ name: "a", activities: ["x"] }, { name: "a", activities: ["y"] }] },
    refused: { path: "workflows[1].name", rule: /stands twice/ },
  },
  {
    title: "a workflow without activities",
    row: named("a") && { ...good, workflows: [{ name: "a" }] },
    refused: { path: "workflows[0].activities", rule: /must be an array/ },
  },
  {
    title: "an empty list of activities",
    row: acting([]),
    refused: { path: "workflows[0].activities", rule: /1 to 100 entries/ },
  },
  {
    title: "101 activities",
    row: acting(many(101, "a")),
    refused: { path: "workflows[0].activities", rule: /1 to 100 entries/ },
  },
  {
    title: "an activity that is null",
    row: acting([null]),
    refused: { path: "workflows[0].activities[0]", rule: /must be a string/ },
  },
  {
    title: "an activity with a blank",
    row: acting(["ok", "send invoice"]),
    refused: { path: "workflows[0].activities[1]", rule: identifier },
  },
  {
    title: "one activity twice",
    row: acting(["a", "a"]),
    refused: { path: "workflows[0].activities[1]", rule: /stands twice/ },
  },

  {
    title: "options as a list",
    row: { ...good, options: [] },
    refused: { path: "options", rule: /must be an object/ },
  },
  {
    title: "an endpoint that is a number",
    row: { ...good, options: { activity_endpoint: 1 } },
    refused: { path: "options.activity_endpoint", rule: /must be a string/ },
  },
  {
    title: "a timeout that is a text",
    row: { ...good, options: { activity_timeout_seconds: "60" } },
    refused: { path: "options.activity_timeout_seconds", rule: /must be a whole number/ },
  },
  {
    title: "an endpoint that is no URL",
    row: { ...good, options: { activity_endpoint: "example.com" } },
    refused: { path: "options.activity_endpoint", rule: /http/ },
    onlyZod: true,
  },
  {
    title: "an endpoint with a password",
    row: { ...good, options: { activity_endpoint: "https://u:p@example.com/" } },
    refused: { path: "options.activity_endpoint", rule: /without user or password/ },
    onlyZod: true,
  },
  {
    title: "a timeout of half a second",
    row: { ...good, options: { activity_timeout_seconds: 0.5 } },
    refused: { path: "options.activity_timeout_seconds", rule: /whole number/ },
    onlyZod: true,
  },
  {
    title: "an unknown option",
    row: { ...good, options: { colour: "red" } },
    refused: { path: "options", rule: /colour/ },
    onlyZod: true,
  },
];
