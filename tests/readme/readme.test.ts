import { existsSync, readdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { expect, test } from "vitest";
import { z } from "zod";
import { repositoryFiles } from "../../scripts/repository-files.ts";
import { useDatabase } from "../support/database.ts";
import { createTestHandler, ring } from "../support/edge-function.ts";
import { insertService } from "../support/services.ts";

const readme = readFileSync("README.md", "utf8");
const exampleSchema = z.object({
  service: z.object({ service_schema: z.string(), service_name: z.string(), workflows: z.unknown() }),
});

const examples = readdirSync("manifests").map((name) =>
  exampleSchema.parse(JSON.parse(readFileSync(join("manifests", name), "utf8"))).service
);

/** The groups of every match, without those that took no part. */
function matches(text: string, pattern: RegExp): string[] {
  return [...text.matchAll(pattern)].flatMap(([, ...groups]) => groups.filter((group) => group !== undefined));
}

test("every npm command is a script", () => {
  const { scripts } = z.object({ scripts: z.record(z.string(), z.string()) }).parse(
    JSON.parse(readFileSync("package.json", "utf8")),
  );
  const named = matches(readme, /\bnpm (?:run (?:--silent )?([\w:-]+)|(start|test)\b)/g);
  expect(named).toEqual(expect.arrayContaining(["start", "demo", "test", "check"]));
  expect(Object.keys(scripts)).toEqual(expect.arrayContaining(named));
});

test("every file that it names exists", () => {
  const changes = readme.split("\n## ").find((section) => section.startsWith("Where do I change"));
  const inTable = matches(changes ?? "", /^\|[^|]+\| `([^`]+)` +\|$/gm);
  expect(inTable.length).toBeGreaterThan(15);
  const elsewhere = matches(readme, /`((?:supabase|deployer|worker|client|local|manifests|scripts|tests)\/[\w./-]+)`/g);
  const imported = matches(readme, /from "\.\/([^"]+)"/g);
  expect([...inTable, ...elsewhere, ...imported].filter((path) => !existsSync(path))).toEqual([]);
});

test("what its code imports is exported", () => {
  const imports = [...readme.matchAll(/import \{ ([^}]+) \} from "\.\/([^"]+)"/g)];
  expect(imports.length).toBeGreaterThan(0);
  for (const [, names = "", path = ""] of imports) {
    const source = readFileSync(path, "utf8");
    for (const name of names.split(", ")) expect(source).toMatch(new RegExp(`export .*\\b${name}\\b`));
  }
});

test("no service name stands in any code", () => {
  const code = repositoryFiles().filter((path) => /\.(ts|sql|mjs)$/.test(path) && !/^(tests|manifests)\//.test(path));
  expect(code.length).toBeGreaterThan(50);
  const offences = code.flatMap((path) => {
    const text = readFileSync(path, "utf8");
    return examples.filter(({ service_schema }) => text.includes(service_schema))
      .map(({ service_schema }) => `${path}: ${service_schema}`);
  });
  expect(offences).toEqual([]);
});

const programs = [
  { title: "`npm start` (", file: "local/config.ts" },
  { title: "The deployer (", file: "deployer/config.ts" },
  { title: "The worker (", file: "worker/config.ts" },
  { title: "The Edge Function `", file: "supabase/functions/queue-worker-build/config.ts" },
  { title: "The programs behind `npm start`", file: "local/api-server.ts" },
  { title: "The programs behind `npm start`", file: "local/functions-server.ts" },
];

/** A program's part of the settings: from its title to the next one's. */
function settingsOf(title: string): string {
  const begin = readme.indexOf(`\n${title}`, readme.indexOf("\n## Settings"));
  if (begin < 0) throw new Error(`README.md has no settings of ${title}`);
  const ends = [...programs.map((program) => `\n${program.title}`), "\n## "]
    .map((end) => readme.indexOf(end, begin + 1)).filter((end) => end > 0);
  return readme.slice(begin, Math.min(...ends));
}

/** Variables of a program's schema, each with its default as the source has it. */
function variablesOf(file: string): Map<string, string | undefined> {
  const schema = readFileSync(file, "utf8").split("environmentSchema = z.object({")[1]?.split("\n});")[0] ?? "";
  const entries = schema.split(/^ {2}(?=[A-Z][A-Z0-9_]*:)/m).slice(1);
  return new Map(entries.map((entry) => {
    const found = matches(entry, /(?:default|port)\(([\w".]+)\)/g)[0];
    return [entry.split(":")[0] ?? "", found?.replaceAll(/"|(?<=\d)_(?=\d)/g, "")];
  }));
}

test.each(programs)("settings of $file: all of them, with their defaults", ({ title, file }) => {
  const section = settingsOf(title);
  const variables = variablesOf(file);
  expect(variables.size).toBeGreaterThan(0);
  for (const [name, preset] of variables) {
    // What several programs share is described where it is set by hand.
    expect(readme.slice(readme.indexOf("\n## Settings")), name).toContain(`\`${name}\``);
    const row = section.split("\n").find((line) => line.startsWith(`| \`${name}\``));
    if (file.endsWith("config.ts")) expect(section, name).toContain(`\`${name}\``);
    if (row !== undefined && preset !== undefined) {
      expect(row.split("|").at(-2)?.trim().replaceAll("`", ""), name).toBe(preset);
    }
  }
});

test("every variable that it names is one of the code's", () => {
  const named = new Set(matches(readme, /\b([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+)\b(?!\.md)/g));
  const sources = repositoryFiles().filter((path) =>
    /\.(ts|mjs|sql|toml)$/.test(path) && !/^(tests|manifests)\//.test(path)
  );
  const envconfig = dirname(createRequire(import.meta.url).resolve("@temporalio/envconfig"));
  const text = [
    ...sources,
    ...readdirSync(envconfig).filter((name) => name.endsWith(".js")).map((name) => join(envconfig, name)),
  ].map((path) => readFileSync(path, "utf8")).join("\n");
  expect([...named].filter((name) => !new RegExp(`\\b${name}\\b`).test(text))).toEqual([]);
});

const database = useDatabase();

test("every SQL block runs, by the rights of the role that it says", async () => {
  for (const { service_schema, service_name, workflows } of examples) {
    await insertService(database, service_schema, { name: service_name, workflows });
  }
  await insertService(database, "refused_service", { options: { unknown_option: true } });
  const handler = createTestHandler(database);
  expect((await handler(ring())).status).toBe(200);

  const blocks = matches(readme, /^```sql\n([^]*?)^```/gm);
  expect(blocks.length).toBeGreaterThan(10);
  const client = await database.connect();
  const returned = new Map<string, number | null>();
  for (const block of blocks) {
    const writes = /^(insert|update|delete)\b|\bosp\.(redeploy|rollback)\b/.test(block);
    // How long history is kept, and how much is done at once, is the owner's to say.
    const isOwners = /^update osp_metadata\.(retention|platforms)\b/.test(block);
    await client.query(isOwners ? "reset role" : `set role ${writes ? "osp_writer" : "osp_analyst"}`);
    const { rowCount } = await client.query(block).catch((error: unknown) => {
      throw new Error(`This block of README.md fails: ${block}`, { cause: error });
    });
    returned.set(block, rowCount);
  }
  // Nothing was deployed, pruned or lost, so there are no attempts and no durations; all others must find what was put there.
  const empty = blocks.filter((block) => returned.get(block) === 0);
  expect(
    empty.filter((block) => !/deployment_attempts|deployment_history|pruned_objects|orphans|silent_for/.test(block)),
  ).toEqual(
    [],
  );
});
