import { readFile, realpath, stat } from "node:fs/promises";
import { join, relative, sep } from "node:path";
import { z } from "zod";
import { formatProblems, problemsOf } from "../../supabase/functions/_shared/problems.ts";
import { InvalidCodeError } from "../errors.ts";

/** A service's own code as its author writes it. */
export interface ServiceSources {
  /** Absolute, symlinks resolved. */
  directory: string;
  /** Modules, relative to the directory; undefined: the built-in one serves. */
  workflows: string | undefined;
  activities: string | undefined;
  /** Modules that are imported and never used: they are left out. */
  ignoreModules: string[];
}

/** `osp` in the service's package.json, where the conventions do not fit. */
const settingsSchema = z.strictObject({
  workflows: z.string().optional(),
  activities: z.string().optional(),
  ignoreModules: z.array(z.string()).default([]),
});
const packageSchema = z.object({ osp: settingsSchema.prefault({}) });
type Settings = z.infer<typeof settingsSchema>;

const ENDINGS = ["ts", "mts", "js", "mjs"];
const MODULE = /\.(ts|mts|tsx|js|mjs|jsx)$/;

/** Where a module is looked for, in the service's directory. */
function placesOf(kind: "workflows" | "activities"): string[] {
  return ["", "src/"].flatMap((directory) =>
    [kind, `${kind}/index`].flatMap((name) => ENDINGS.map((ending) => `${directory}${name}.${ending}`))
  );
}

/**
 * The modules of a service's directory: `workflows.ts` and `activities.ts`, there or in `src/`, or what its package.json names.
 *
 * @throws {InvalidCodeError} listing everything that is missing or ambiguous
 */
export async function findSources(given: string): Promise<ServiceSources> {
  const directory = await realpath(given).catch(() => undefined);
  if (directory === undefined || !(await stat(directory)).isDirectory()) {
    throw new InvalidCodeError(`Cannot push ${given}`, ["there is no such directory"]);
  }
  const problems: string[] = [];
  const settings = await readSettings(directory, problems);
  const workflows = await findModule(directory, "workflows", settings, problems);
  const activities = await findModule(directory, "activities", settings, problems);
  if (workflows === undefined && activities === undefined && problems.length === 0) {
    problems.push(
      `there is neither a module of workflows nor one of activities: workflows.ts and activities.ts, here or in src/ ` +
        `(or .js, .mjs, .mts), or what package.json names: {"osp": {"workflows": "./some/file.ts"}}`,
    );
  }
  if (problems.length > 0) throw new InvalidCodeError(`Cannot push ${given}`, problems);
  return { directory, workflows, activities, ignoreModules: settings.ignoreModules };
}

async function readSettings(directory: string, problems: string[]): Promise<Settings> {
  const nothing: Settings = { ignoreModules: [] };
  const text = await readFile(join(directory, "package.json"), "utf8").catch(() => undefined);
  if (text === undefined) return nothing;
  try {
    const json: unknown = JSON.parse(text);
    const parsed = packageSchema.safeParse(json);
    if (parsed.success) return parsed.data.osp;
    problems.push(`package.json: ${formatProblems(problemsOf(parsed.error, json))}`);
  } catch (error) {
    problems.push(`package.json: ${String(error)}`);
  }
  return nothing;
}

async function findModule(
  directory: string,
  kind: "workflows" | "activities",
  settings: Settings,
  problems: string[],
): Promise<string | undefined> {
  const named = settings[kind];
  if (named !== undefined) return await findNamed(directory, kind, named, problems);
  const found: string[] = [];
  for (const place of placesOf(kind)) if (await isFile(join(directory, place))) found.push(place);
  if (found.length > 1) {
    problems.push(`there are ${found.join(" and ")}: name one in package.json, {"osp": {"${kind}": "./${found[0]}"}}`);
  }
  return found[0];
}

async function findNamed(
  directory: string,
  kind: string,
  named: string,
  problems: string[],
): Promise<string | undefined> {
  const file = await realpath(join(directory, named)).catch(() => undefined);
  if (file === undefined || !await isFile(file)) problems.push(`package.json: osp.${kind}: there is no file ${named}`);
  else if (!file.startsWith(directory + sep)) problems.push(`package.json: osp.${kind}: ${named} lies elsewhere`);
  else if (!MODULE.test(file)) {
    problems.push(`package.json: osp.${kind}: ${named} is no module of JavaScript or TypeScript`);
  } else return relative(directory, file);
  return undefined;
}

async function isFile(path: string): Promise<boolean> {
  return await stat(path).then((found) => found.isFile(), () => false);
}
