import { existsSync, readFileSync } from "node:fs";
import { join, normalize } from "node:path";
import { ACTIVITY_SECRETS } from "../../host/activity-settings.ts";
import { BUILT_IN_ACTIVITIES_PATH, manifestPath, manifestSchema } from "../../supabase/functions/_shared/manifest.ts";
import {
  CODE_ACTIVITIES_PATH,
  CODE_DIRECTORY,
  CODE_FILES,
  codeDescriptionSchema,
} from "../../supabase/functions/_shared/service-code.ts";

/**
 * What of the variables of all workers one is given, by what lies in its code root. The secret that signs calls of activities
 * is for the built-in ones, which make them: whoever knows it is one of our workers to every endpoint, so that own activities
 * are not given it.
 */
export function variablesOfWorker(
  all: Record<string, string>,
  codeRoot: string,
  serviceSchema: string,
): Record<string, string> {
  const file = join(codeRoot, manifestPath(serviceSchema));
  // Without its manifest a worker loads nothing.
  if (!existsSync(file) || postsActivities(codeRoot, file)) return all;
  return Object.fromEntries(Object.entries(all).filter(([name]) => !ACTIVITY_SECRETS.includes(name)));
}

/** Whether the built-in activities serve, as worker/pushed-code.ts decides it: also for pushed code that brings none. */
function postsActivities(codeRoot: string, manifestFile: string): boolean {
  const manifest = manifestSchema.safeParse(readJson(manifestFile)).data;
  if (manifest === undefined) return false;
  const path = normalize(manifest.activities_path);
  if (path === normalize(BUILT_IN_ACTIVITIES_PATH)) return true;
  if (manifest.options.code === undefined || path !== normalize(CODE_ACTIVITIES_PATH)) return false;
  const description = readJson(join(codeRoot, CODE_DIRECTORY, CODE_FILES.description));
  const parsed = codeDescriptionSchema.safeParse(description);
  return parsed.success && parsed.data.activities === undefined;
}

/** Undefined where it is none: whoever needs it says so. */
function readJson(file: string): unknown {
  try {
    return JSON.parse(readFileSync(file, "utf8"));
  } catch {
    return undefined;
  }
}
