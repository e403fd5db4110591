import { readFile } from "node:fs/promises";
import { join, normalize } from "node:path";
import type { z } from "zod";
import {
  BUILT_IN_ACTIVITIES_PATH,
  BUILT_IN_WORKFLOWS_PATH,
  type Manifest,
} from "../supabase/functions/_shared/manifest.ts";
import { formatProblems, problemsOf } from "../supabase/functions/_shared/problems.ts";
import {
  CODE_ACTIVITIES_PATH,
  CODE_DIRECTORY,
  CODE_FILES,
  CODE_WORKFLOWS_PATH,
  type CodeDescription,
  codeDescriptionSchema,
} from "../supabase/functions/_shared/service-code.ts";
import { CodePathError, resolveInside } from "./code-root.ts";
import { describeError } from "./exit.ts";

/** A service's own code as `osp code push` made it, unpacked in the code root. */
export interface PushedCode {
  /** Absolute, symlinks resolved. */
  directory: string;
  description: CodeDescription;
}

/**
 * The code that a manifest names; undefined where it names none.
 *
 * @throws {CodePathError} when it does not lie in the code root
 */
export async function findPushedCode(manifest: Manifest, codeRoot: string): Promise<PushedCode | undefined> {
  if (manifest.options.code === undefined) return undefined;
  const name = join(CODE_DIRECTORY, CODE_FILES.description);
  const file = await resolveInside(codeRoot, name);
  const parsed = codeDescriptionSchema.safeParse(await readJson(file, name));
  if (!parsed.success) throw new CodePathError(`${name}: ${describe(parsed.error)}`);
  return { directory: join(file, ".."), description: parsed.data };
}

async function readJson(file: string, name: string): Promise<unknown> {
  try {
    return JSON.parse(await readFile(file, "utf8"));
  } catch (error) {
    throw new CodePathError(`${name} cannot be read: ${describeError(error)}`);
  }
}

function describe(error: z.ZodError): string {
  return formatProblems(problemsOf(error, undefined));
}

/** The built-in module that serves for one which the code does not bring; undefined: the manifest's own counts. */
export function builtInInstead(name: string, { description }: PushedCode): string | undefined {
  if (isPushedActivities(name) && description.activities === undefined) return BUILT_IN_ACTIVITIES_PATH;
  if (isPushedWorkflows(name) && description.workflows === undefined) return BUILT_IN_WORKFLOWS_PATH;
  return undefined;
}

/** Whether a manifest's path is one of pushed code. */
export function isPushedPath(name: string): boolean {
  return isPushedActivities(name) || isPushedWorkflows(name);
}

function isPushedActivities(name: string): boolean {
  return normalize(name) === normalize(CODE_ACTIVITIES_PATH);
}

function isPushedWorkflows(name: string): boolean {
  return normalize(name) === normalize(CODE_WORKFLOWS_PATH);
}
