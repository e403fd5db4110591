/** Manifests as nobody of ours writes them: given to a worker by hand, or changed in the registry. */
export interface ManifestCase {
  title: string;
  /** The file, as it is written. */
  text: string;
  /** What is wrong with it; undefined: it is data like any other, and is let through. */
  refused?: RegExp;
}

const usable = {
  manifest_version: 1,
  service_schema: "demo",
  service_name: "Demo",
  revision: 1,
  activities_path: "./service/activities.ts",
  workflows: [{
    name: "doWork",
    task_queue: "demo-tasks",
    workflows_path: "./service/workflows.ts",
    activities: ["first"],
  }],
  options: { activity_endpoint: "http://127.0.0.1:9/{activity}", activity_timeout_seconds: 60 },
};
const [workflow] = usable.workflows;

const whole = (changes: object) => JSON.stringify({ ...usable, ...changes });
const inWorkflow = (changes: object) => whole({ workflows: [{ ...workflow, ...changes }] });
const posting = (activity_endpoint: string) => whole({ options: { activity_endpoint } });
/** With a member that no object literal can have. */
const withMember = (text: string, member: string) => `${text.slice(0, -1)},${member}}`;
const nested = (depth: number) => "[".repeat(depth) + "]".repeat(depth);

export const manifestCases: ManifestCase[] = [
  { title: "a usable one", text: whole({}) },
  { title: "a name that is SQL, shell, markup and an option", text: whole({ service_name: "--help'; drop $(x) <b>" }) },
  { title: "a service named constructor", text: whole({ service_schema: "constructor" }) },
  { title: "a queue that is an option", text: inWorkflow({ task_queue: "--help" }) },
  { title: "a module whose name is an option", text: whole({ activities_path: "--require=x.js" }) },
  { title: "a key that stands twice: the last one counts", text: `{"revision":"x",${whole({}).slice(1)}` },

  ...[
    "../outside.js",
    "a/../../outside.js",
    "/etc/passwd.js",
    "\\\\host\\share\\x.js",
    "file:///etc/x.js",
    "https://example.com/x.js",
    "data:text/javascript,x.js",
    "node:fs.js",
    "C:\\x.js",
    "a\0.js",
    "a\n.js",
    "a\u001b[2J.js",
    "a\u202esj.ts",
    "/etc/passwd",
    "",
    `${"a/".repeat(300)}x.js`,
    7,
    null,
  ].map((path) => ({
    title: `activities from ${JSON.stringify(path)?.slice(0, 40)}`,
    text: whole({ activities_path: path }),
    refused: /^activities_path: /,
  })),
  {
    title: "workflows from outside",
    text: inWorkflow({ workflows_path: "../x.js" }),
    refused: /^workflows\[0\]\.workflows_path: /,
  },
  ...["--help", "../demo", "Demo", "", "__proto__", "demo\n", 7].map((schema) => ({
    title: `a service named ${JSON.stringify(schema)}`,
    text: whole({ service_schema: schema }),
    refused: /^service_schema: /,
  })),
  ...["__proto__", "constructor", "default", "__osp_plan", "a\u001b[2J", "a b", "../x", 7].map((name) => ({
    title: `a workflow named ${JSON.stringify(name)}`,
    text: inWorkflow({ name }),
    refused: /^workflows\[0\]\.name: /,
  })),
  ...["__proto__", "constructor", "--help", "a\u0000"].map((name) => ({
    title: `an activity named ${JSON.stringify(name)}`,
    text: inWorkflow({ activities: [name] }),
    refused: /^workflows\[0\]\.activities\[0\]: /,
  })),
  ...["", "a\r\nb", "a\u001b]0;title\u0007", "a\u202eb", "a\u200bb", "x".repeat(201), null].map((task_queue) => ({
    title: `a task queue like ${JSON.stringify(task_queue)?.slice(0, 40)}`,
    text: inWorkflow({ task_queue }),
    refused: /^workflows\[0\]\.task_queue: /,
  })),
  ...[
    "javascript:alert(1)",
    "file:///etc/passwd",
    "http://u:p@127.0.0.1/",
    "http://127.0.0.1/{",
    "http://127.0.0.1/\r\nx: 1",
  ].map((endpoint) => ({
    title: `activities posted to ${JSON.stringify(endpoint)}`,
    text: posting(endpoint),
    refused: /^options\.activity_endpoint: /,
  })),
  ...["0", "-1", "1.5", "1e400", '"1"', "null", "[]"].map((revision) => ({
    title: `revision ${revision}`,
    text: whole({}).replace('"revision":1', `"revision":${revision}`),
    refused: /^revision: /,
  })),
  ...["__proto__", "constructor", "toString", "\\u001b[2J"].flatMap((key) => [
    {
      title: `an unknown member ${key}`,
      text: withMember(whole({}), `"${key}": {"polluted": true}`),
      refused: /Unrecognized key/,
    },
    {
      title: `an unknown option ${key}`,
      text: whole({}).replace('"options":{', `"options":{"${key}":{"polluted":true},`),
      refused: /^options: Unrecognized key/,
    },
  ]),
  { title: "another version", text: whole({ manifest_version: 2 }), refused: /^manifest_version: / },
  { title: "a name with half a character", text: whole({ service_name: "a\ud800" }), refused: /^service_name: / },
  { title: "no object", text: '"manifest"', refused: /expected object/ },
  { title: "a list", text: "[]", refused: /expected object/ },
  { title: "null", text: "null", refused: /expected object/ },
  {
    title: "5,000 levels in an unknown member",
    text: withMember(whole({}), `"a": ${nested(5000)}`),
    refused: /"a"|nested/,
  },
  { title: "50,000 levels and nothing else", text: nested(50_000), refused: /expected object|nested/ },
  {
    title: "100 workflows that are all wrong in every way",
    text: whole({
      workflows: Array.from({ length: 100 }, () => ({ name: "x".repeat(5000), activities: ["y".repeat(5000)] })),
    }),
    refused: /^and 370 more problems$/,
  },
];

/** Files that are no manifest at all. */
export const unreadableManifests: ManifestCase[] = [
  { title: "empty", text: "", refused: /is not JSON/ },
  { title: "cut off", text: whole({}).slice(0, -9), refused: /is not JSON/ },
  { title: "an escape sequence", text: "\u001b[2J\u202e", refused: /is not JSON/ },
  { title: "beginning with a byte order mark", text: `\ufeff${whole({})}`, refused: /is not JSON/ },
  { title: "NUL", text: "\0\0", refused: /is not JSON/ },
  {
    title: "2 MB",
    text: whole({ service_name: "x".repeat(2_000_000) }),
    refused: /has \d+ bytes, a manifest has at most 1048576/,
  },
];
