import { resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { z } from "zod";
import { activityNetworks, yesOrNo } from "../host/activity-settings.ts";
import { isEndpointTemplate } from "../supabase/functions/_shared/activity-endpoint.ts";
import { formatProblems, problemsOf } from "../supabase/functions/_shared/problems.ts";

export const REPOSITORY = fileURLToPath(new URL("..", import.meta.url));

const port = (preset: number) => z.coerce.number("must be a port, 0 to 65535").int().min(0).max(65_535).default(preset);

const environmentSchema = z.object({
  OSP_STATE_DIR: z.string().default(".osp").transform((path) => resolve(path)),
  OSP_DB_PORT: port(54_322),
  OSP_API_PORT: port(54_321),
  OSP_TEMPORAL_PORT: port(7233),
  OSP_TEMPORAL_UI_PORT: port(8233),
  OSP_ACTIVITY_PORT: port(54_330),
  /** Where a service that names no endpoint sends its activities; unset: the example activity server. */
  OSP_DEFAULT_ACTIVITY_ENDPOINT: z.string()
    .refine(isEndpointTemplate, "must be an http or https URL; {service_schema} and {activity} are filled in")
    .optional(),
  /** Which endpoints the workers call besides public ones by https; see host/activity-settings.ts. */
  OSP_ACTIVITY_NETWORKS: z.string().default("127.0.0.0/8,::1").refine(
    (text) => activityNetworks.safeParse(text).success,
    "must be networks such as 10.0.0.0/8 or fd12::/16, with commas between",
  ),
  OSP_ACTIVITY_PLAIN_HTTP: yesOrNo.default("false"),
  /** A Temporal CLI to use instead of looking for one. */
  TEMPORAL_CLI_PATH: z.string().optional(),
});
export type StackConfig = z.infer<typeof environmentSchema>;

/** Ports by the variable that moves them. */
export const PORT_SETTINGS = [
  "OSP_DB_PORT",
  "OSP_API_PORT",
  "OSP_TEMPORAL_PORT",
  "OSP_TEMPORAL_UI_PORT",
  "OSP_ACTIVITY_PORT",
] as const;

/** Settings of a stack beside others: any free port for each. */
export const ANY_PORTS: Record<string, string> = Object.fromEntries(PORT_SETTINGS.map((name) => [name, "0"]));

/** A message for the person who started us: printed without a stack. */
export class StackError extends Error {
  override readonly name = "StackError";
}

/** @throws {StackError} naming every bad variable at once */
export function parseConfig(environment: NodeJS.ProcessEnv): StackConfig {
  const given = Object.fromEntries(Object.entries(environment).filter(([, value]) => value?.trim()));
  const parsed = environmentSchema.safeParse(given);
  if (parsed.success) return parsed.data;
  throw new StackError(`Cannot start: ${formatProblems(problemsOf(parsed.error, given))}`);
}
