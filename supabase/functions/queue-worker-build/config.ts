import { z } from "zod";
import { isEndpointTemplate } from "../_shared/activity-endpoint.ts";
import { formatProblems, problemsOf } from "../_shared/problems.ts";

export interface FunctionConfig {
  supabaseUrl: string;
  /** The key that acts as service_role. */
  secretKey: string;
  webhookSecret: string;
  defaultActivityEndpoint: string | undefined;
}

const keysSchema = z.string().transform((text, context) => {
  try {
    return z.object({ default: z.string().min(1) }).parse(JSON.parse(text)).default;
  } catch {
    context.addIssue({ code: "custom", message: 'must be JSON such as {"default":"sb_secret_…"}' });
    return z.NEVER;
  }
});

const environmentSchema = z.object({
  SUPABASE_URL: z.url("must be a URL"),
  SUPABASE_SECRET_KEYS: keysSchema.optional(),
  SUPABASE_SECRET_KEY: z.string().min(1).optional(),
  SUPABASE_SERVICE_ROLE_KEY: z.string().min(1).optional(),
  OSP_WEBHOOK_SECRET: z.string("is not set: supabase secrets set OSP_WEBHOOK_SECRET=…, the same as in the Vault")
    .min(16, "must have at least 16 characters"),
  OSP_DEFAULT_ACTIVITY_ENDPOINT: z.string()
    .refine(isEndpointTemplate, "must be an http or https URL; {service_schema} and {activity} are filled in")
    .optional(),
});

/**
 * The function's settings from its environment; blank means not set.
 *
 * @throws {Error} naming every bad variable at once, without the values of secrets
 */
export function parseConfig(environment: Record<string, string>): FunctionConfig {
  const given = Object.fromEntries(Object.entries(environment).filter(([, value]) => value.trim() !== ""));
  const parsed = environmentSchema.safeParse(given);
  if (!parsed.success) {
    throw new Error(`Cannot start queue-worker-build: ${formatProblems(problemsOf(parsed.error, undefined))}`);
  }
  const { data } = parsed;
  // Newest first: the legacy service_role key goes away by the end of 2026.
  const secretKey = data.SUPABASE_SECRET_KEYS ?? data.SUPABASE_SECRET_KEY ?? data.SUPABASE_SERVICE_ROLE_KEY;
  if (secretKey === undefined) {
    throw new Error(
      "Cannot start queue-worker-build: one of SUPABASE_SECRET_KEYS, SUPABASE_SECRET_KEY and SUPABASE_SERVICE_ROLE_KEY must be set",
    );
  }
  return {
    supabaseUrl: data.SUPABASE_URL,
    secretKey,
    webhookSecret: data.OSP_WEBHOOK_SECRET,
    defaultActivityEndpoint: data.OSP_DEFAULT_ACTIVITY_ENDPOINT,
  };
}
