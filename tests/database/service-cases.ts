import { visible } from "../../supabase/functions/_shared/visible-text.ts";
import { optionCases } from "./option-cases.ts";

/** One table of cases for both judges of a row: the SQL of osp.services and the zod schema of the core. */
export interface ServiceCase {
  title: string;
  row: Record<string, unknown>;
  /** Where the row is refused and by which rule; undefined: it is accepted. */
  refused?: { path: string; rule: RegExp };
  /** What only zod sees: SQL accepts it, and the revision ends as `failed`. */
  onlyZod?: boolean;
  /** What only SQL sees: the size of the row. */
  onlySql?: boolean;
  /** Postgres itself cannot read it, and says so by this SQLSTATE. */
  sqlState?: string;
  /** Where zod refuses it, if that is not where SQL does. */
  zod?: { path: string; rule: RegExp };
}

/** JSON as it is written, where no value of JavaScript can be: doubled keys, numbers beyond a double, great depth. */
class RawJson {
  readonly text: string;

  constructor(text: string) {
    this.text = text;
  }
}

/** The JSON of a column of a case; null for SQL's null. */
export function jsonOf(value: unknown): string | null {
  if (value instanceof RawJson) return value.text;
  return value === null || value === undefined ? null : JSON.stringify(value);
}

/** The row as JavaScript reads it. */
export function parsedRow(row: Record<string, unknown>): Record<string, unknown> {
  const parse = (value: unknown): unknown => value instanceof RawJson ? JSON.parse(value.text) : value;
  return Object.fromEntries(Object.entries(row).map(([key, value]) => [key, parse(value)]));
}

const good = {
  service_schema: "good_service_1",
  service_name: "Good",
  workflows: [{ name: "doWork", activities: ["first"] }],
  options: {},
};
const named = (name: unknown) => ({ ...good, workflows: [{ name, activities: ["first"] }] });
const acting = (activities: unknown) => ({ ...good, workflows: [{ name: "doWork", activities }] });
const called = (service_name: string) => ({ ...good, service_name });
const schemed = (service_schema: string) => ({ ...good, service_schema });
const workflowsOf = (text: string) => ({ ...good, workflows: new RawJson(text) });
const optionsOf = (text: string) => ({ ...good, options: new RawJson(text) });
const posting = (activity_endpoint: string) => ({ ...good, options: { activity_endpoint } });
const shown = (text: string) => visible(JSON.stringify(text));
const nested = (depth: number) => "[".repeat(depth) + "]".repeat(depth);
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
    title: "an endpoint of one activity that is no URL",
    row: { ...good, options: { activities: { first: { endpoint: "ftp://example.com/" } } } },
    refused: { path: "options.activities.first.endpoint", rule: /http or https URL/ },
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
    refused: { path: "options.activity_timeout_seconds", rule: /0.5 must be a whole number of seconds$/ },
  },
  {
    title: "an unknown option",
    row: { ...good, options: { colour: "red" } },
    refused: { path: "options", rule: /"colour"/ },
    onlyZod: true,
  },
  ...optionCases,

  // Hostile, and yet a name for people: it arrives as it is, byte for byte.
  ...[
    "'; drop table osp.services; --",
    "$(reboot) `reboot` | reboot & reboot; reboot > /dev/null",
    "--help",
    "-rf /",
    "../../../etc/passwd",
    "%s %n %00 \\0 \\u0000",
    "{activity} ${activity} {{activity}} <%= activity %> #{activity}",
    "<script>alert(1)</script>",
    "__proto__",
    "e\u0301 is not \u00e9", // the same to the eye, two texts
    "p\u0430yp\u0430l", // with Cyrillic letters
    "\u{1f469}\u200d\u{1f469}\u200d\u{1f466} joined",
    "\u0646\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
    "\u05d0\u200e 1",
    "\u{1f3f4}\u{e0067}\u{e0062}\u{e0065}\u{e006e}\u{e0067}\u{e007f}",
  ].map((name) => ({ title: `a name for people like ${shown(name)}`, row: called(name) })),
  ...["constructor", "prototype", "hasownproperty", "null", "true", "select", "con", `a${"_".repeat(62)}`].map((
    schema,
  ) => ({
    title: `a schema named ${schema}`,
    row: schemed(schema),
  })),
  {
    title: "a key that stands twice: the last one counts, for both",
    row: workflowsOf('[{"name": "bad name", "name": "a", "activities": [7], "activities": ["x"]}]'),
  },
  {
    title: "numbers in another spelling",
    row: optionsOf('{"activity_timeout_seconds": 3e1, "activity_max_attempts": 5.000}'),
  },

  ...[
    ["an escape sequence of a terminal", "a\u001b[2Jb"],
    ["a bell", "a\u0007b"],
    ["a carriage return and a line feed", "a\r\nSet-Cookie: b"],
    ["a tab", "a\tb"],
    ["DEL", "a\u007fb"],
    ["a control sequence introducer of 8 bits", "a\u009b31mb"],
    ["a next line", "a\u0085b"],
    ["a line separator", "a\u2028b"],
    ["a paragraph separator", "a\u2029b"],
  ].map(([title, name = ""]) => ({
    title: `a name with ${title}`,
    row: called(name),
    refused: { path: "service_name", rule: /control characters/ },
  })),
  ...[
    ["a right-to-left override", "invoice\u202efdp.exe"],
    ["an embedding", "a\u202ab\u202c"],
    ["an isolate", "a\u2067b\u2069"],
    ["a zero-width space", "pay\u200bpal"],
    ["a word joiner", "pay\u2060pal"],
    ["a byte order mark", "\ufeffname"],
    ["an interlinear annotation", "a\ufff9b\ufffac\ufffb"],
  ].map(([title, name = ""]) => ({
    title: `a name with ${title}`,
    row: called(name),
    refused: { path: "service_name", rule: /turn text around or hide/ },
  })),
  ...["\u00a0", "\u3164", "\u2800", "\u200d\ufe0f", "\u00ad \u2003"].map((name) => ({
    title: `a name of nothing that shows: ${shown(name)}`,
    row: called(name),
    refused: { path: "service_name", rule: /blank/ },
  })),
  {
    title: "a name with NUL",
    row: called("a\0b"),
    refused: { path: "service_name", rule: /control characters/ },
    sqlState: "22021",
  },
  {
    title: "a name with half a character (a driver of SQL sends another one for it)",
    row: called("a\ud800b"),
    refused: { path: "service_name", rule: /half a character/ },
    onlyZod: true,
  },

  ...[
    "--help",
    "-a",
    "../a",
    "a/../b",
    "a.b",
    "a b",
    "a-b",
    "__proto__",
    "_a",
    "1a",
    "a\u202e",
    "\uff41",
    "\u0430",
    "a\u0301",
    "a;reboot",
    "$(a)",
    "{a}",
    "a%2fb",
  ]
    .map((schema) => ({
      title: `a schema like ${shown(schema)}`,
      row: schemed(schema),
      refused: { path: "service_schema", rule: identifier },
    })),
  {
    title: "a schema with NUL",
    row: schemed("a\0"),
    refused: { path: "service_schema", rule: identifier },
    sqlState: "22021",
  },

  ...[
    "--help",
    "a\u001b[31m",
    "a\u202eb",
    "a\u200bb",
    "proc\u0435ss",
    "\uff41",
    "e\u0301",
    "a;b",
    "$(a)",
    "{a}",
    "a.b",
    "a b",
    "",
    "a\n",
  ].map((name) => ({
    title: `a workflow named ${shown(name)}`,
    row: named(name),
    refused: { path: "workflows[0].name", rule: identifier },
  })),
  {
    title: "a workflow name with NUL",
    row: workflowsOf('[{"name": "a\\u0000b", "activities": ["x"]}]'),
    refused: { path: "workflows[0].name", rule: identifier },
    sqlState: "22P05",
  },
  {
    title: "a workflow name with half a character",
    row: workflowsOf('[{"name": "a\\ud800", "activities": ["x"]}]'),
    refused: { path: "workflows[0].name", rule: identifier },
    sqlState: "22P02",
  },
  ...["__proto__", "constructor", "prototype", "toString", ""].map((key) => ({
    title: `a workflow with the key ${shown(key)}`,
    row: workflowsOf(`[{"name": "a", "activities": ["x"], ${JSON.stringify(key)}: {"polluted": true}}]`),
    refused: { path: "workflows[0]", rule: new RegExp(`"${key}"`) },
  })),
  {
    title: "a workflow with a key that would clear a terminal",
    row: workflowsOf('[{"name": "a", "activities": ["x"], "\\u001b[2J\\u202e": 1}]'),
    refused: { path: "workflows[0]", rule: /"\\u001b\[2J\\u202e"/ },
  },
  {
    title: "workflows nested 5,000 deep",
    row: workflowsOf(nested(5000)),
    refused: { path: "workflows[0]", rule: /must be an object/ },
  },
  {
    title: "a workflow name nested 5,000 deep",
    row: workflowsOf(`[{"name": ${nested(5000)}, "activities": ["x"]}]`),
    refused: { path: "workflows[0].name", rule: /must be a string/ },
  },
  {
    title: "workflows nested 100,000 deep",
    row: workflowsOf(nested(100_000)),
    refused: { path: "workflows[0]", rule: /must be an object/ },
    sqlState: "54001",
  },
  {
    title: "numbers whose text would be 650 MB",
    row: workflowsOf(`{"a": [${"1e131071,".repeat(5000)}0]}`),
    refused: { path: "workflows", rule: /must be an array/ },
  },
  {
    title: "a number that no numeric can hold",
    row: workflowsOf("[1e200000]"),
    refused: { path: "workflows[0]", rule: /must be an object/ },
    sqlState: "22003",
  },

  {
    title: "options nested 33 deep",
    row: optionsOf(`{"a": ${nested(33)}}`),
    refused: { path: "options", rule: /nested/ },
    zod: { path: "options", rule: /"a"/ },
  },
  {
    title: "options nested 5,000 deep",
    row: optionsOf(`{"a": ${nested(5000)}}`),
    refused: { path: "options", rule: /nested/ },
    zod: { path: "options", rule: /"a"/ },
  },
  {
    title: "options nested 32 deep",
    row: optionsOf(`{"a": ${nested(31)}}`),
    refused: { path: "options", rule: /"a"/ },
    onlyZod: true,
  },
  ...["1e400", "-1e400", "1e-400", '[0, {"b": 1e131071}]'].map((number) => ({
    title: `an option that holds ${number}`,
    row: optionsOf(`{"a": ${number}}`),
    refused: { path: "options", rule: /no number beyond/ },
    zod: { path: "options", rule: /"a"/ },
  })),
  {
    title: "a timeout beyond a double",
    row: optionsOf('{"activity_timeout_seconds": 1e400}'),
    refused: { path: "options", rule: /no number beyond/ },
    zod: { path: "options.activity_timeout_seconds", rule: /Infinity must be a whole number/ },
  },
  {
    title: "a timeout of thirty and a half seconds",
    row: optionsOf('{"activity_timeout_seconds": 30.5}'),
    refused: { path: "options.activity_timeout_seconds", rule: /whole number/ },
  },
  {
    title: "a timeout that a double rounds to a whole number",
    row: optionsOf('{"activity_timeout_seconds": 30.000000000000000000001}'),
  },
  {
    title: "a timeout beyond what is safe",
    row: optionsOf('{"activity_timeout_seconds": 9007199254740993}'),
    refused: { path: "options.activity_timeout_seconds", rule: /whole number|86400/ },
  },
  ...["__proto__", "constructor", "toString"].map((key) => ({
    title: `an option named ${key}`,
    row: optionsOf(`{${JSON.stringify(key)}: {"polluted": true}}`),
    refused: { path: "options", rule: new RegExp(`"${key}"`) },
    onlyZod: true,
  })),
  { title: "code by its hash", row: optionsOf(`{"code": "${"0a".repeat(32)}"}`) },
  ...["0A".repeat(32), "0a".repeat(31), "0a".repeat(33), `${"0a".repeat(32)}\n`, "", "latest", "../../x", "__proto__"]
    .map((
      code,
    ) => ({
      title: `code like ${shown(code.slice(0, 20))}, ${code.length} characters`,
      row: optionsOf(JSON.stringify({ code })),
      refused: { path: "options.code", rule: /64 hex digits/ },
    })),
  ...["null", "7", "true", "[]", '{"polluted": true}'].map((code) => ({
    title: `code that is ${code}`,
    row: optionsOf(`{"code": ${code}}`),
    refused: { path: "options.code", rule: /must be a string/ },
  })),
  ...["__proto__", "constructor", "toString", "elsewhere", "\u001b[2J\u202e"].map((name) => ({
    title: `options of an activity named ${shown(name)}, which no workflow has`,
    row: optionsOf(`{"activities": {"first": {}, ${JSON.stringify(name)}: {"timeout_seconds": 5}}}`),
    refused: {
      path: "options.activities",
      rule: new RegExp(
        `^(options.activities: )?${RegExp.escape(shown(name))} is no activity of this service's workflows$`,
      ),
    },
  })),
  {
    title: "an option whose name would clear a terminal",
    row: optionsOf('{"\\u001b[2J\\u202e": 1}'),
    refused: { path: "options", rule: /"\\u001b\[2J\\u202e"/ },
    onlyZod: true,
  },
  ...[
    "javascript:alert(1)",
    "file:///etc/passwd",
    "data:text/html,x",
    "ftp://example.com/",
    "//example.com/",
    "https:example.com",
    "https://user@example.com/",
    "https://{service_schema}@example.com/",
    "https://{activity}:{activity}@example.com/",
    "https://example.com/{",
    "https://example.com/{{activity}}",
    "https://example.com/{service_schema}/{secret}",
    "https://example.com/{service_{activity}schema}",
    "https://exam\nple.com/",
    "https://example.com/\r\nx-injected: 1",
    "https://example.com/ x",
    " https://example.com/",
    "https:\\\\example.com\\x",
    "https://example.com/\u202e",
    "https://exam\u200bple.com/",
    "https://exam\u00adple.com/",
    "https://example.com/\u001b[2J",
    "https://example.com:99999/",
    "https://",
    "",
  ].map((endpoint) => ({
    title: `an endpoint like ${shown(endpoint.slice(0, 60))}`,
    row: posting(endpoint),
    refused: { path: "options.activity_endpoint", rule: /http or https URL/ },
    onlyZod: true,
  })),
  ...[
    "http://127.0.0.1:8080/{activity}?service={service_schema}#x",
    "HTTPS://EXAMPLE.COM/{activity}",
    "https://[::1]/a%2f..%00",
    "https://b\u00fccher.example/{activity}",
    "https://example.com/$(reboot)/'%22/{activity}",
  ].map((endpoint) => ({ title: `an endpoint like ${endpoint}`, row: posting(endpoint) })),

  { title: "a row of 262144 bytes of JSON", row: { ...good, workflows: workflowsOfBytes(262_144 - 2) } },
  {
    title: "a row of 262145 bytes of JSON",
    row: { ...good, workflows: workflowsOfBytes(262_145 - 2) },
    refused: { path: "workflows and options", rule: /262145 bytes, must have at most 262144/ },
    onlySql: true,
  },
];

/** Valid workflows whose text is exactly so long, as Postgres writes jsonb: with a blank after each colon and comma. */
function workflowsOfBytes(bytes: number) {
  const written = (value: unknown) => JSON.stringify(value).replaceAll(/([:,])(?=["[{])/g, "$1 ").length;
  const workflows = many(24, "w").map((name) => ({
    name,
    activities: many(100, "a").map((one) => one.padEnd(100, "_")),
  }));
  const left = bytes - written(workflows);
  workflows.forEach((workflow, index) => {
    // Spread, for a name has at most 128 characters.
    const share = Math.floor(left / 24) + (index < left % 24 ? 1 : 0);
    workflow.activities = workflow.activities.map((name, place) =>
      name.padEnd(100 + Math.floor(share / 100) + (place < share % 100 ? 1 : 0), "_")
    );
  });
  return workflows;
}
