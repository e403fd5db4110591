import { z } from "zod";
import { formatProblems, problemsOf } from "../supabase/functions/_shared/problems.ts";

export type Environment = Record<string, string | undefined>;

const connectionSchema = z.object({
  url: z.url({ protocol: /^https?$/, error: "must be an http or https URL" }),
  secretKey: z.string("is not set: a secret key of the project").min(1),
});

/**
 * The project that a command works on: as the environment says, by Supabase's names or those of `supabase status -o env`; else the
 * stack of this repository.
 *
 * @param stackEnv its file stack.env; undefined: there is none
 * @throws {Error} naming every bad variable, without the key
 */
export function connectionOf(environment: Environment, stackEnv: string | undefined): z.infer<typeof connectionSchema> {
  const given = Object.fromEntries(Object.entries(environment).filter(([, value]) => value?.trim()));
  const { SUPABASE_URL, SUPABASE_SECRET_KEY, API_URL, SECRET_KEY } = given;
  const named = { url: SUPABASE_URL ?? API_URL, secretKey: SUPABASE_SECRET_KEY ?? SECRET_KEY };
  const isNamed = named.url !== undefined || named.secretKey !== undefined;
  if (!isNamed && stackEnv === undefined) {
    throw new Error(
      "Cannot tell where to push: set SUPABASE_URL and SUPABASE_SECRET_KEY, or start a stack here by `npm start`",
    );
  }
  const parsed = connectionSchema.safeParse(isNamed ? named : readStackEnv(stackEnv ?? ""));
  if (parsed.success) return parsed.data;
  const variables = { url: "SUPABASE_URL", secretKey: "SUPABASE_SECRET_KEY" };
  const problems = problemsOf(parsed.error, undefined).map(({ path, message }) => ({
    path: path === "url" || path === "secretKey" ? variables[path] : path,
    message,
  }));
  throw new Error(`Cannot tell where to push: ${formatProblems(problems)}`);
}

/** `NAME="value"` lines. */
function readStackEnv(text: string) {
  const valueOf = (name: string) => new RegExp(`^${name}="(.*)"$`, "m").exec(text)?.[1];
  return { url: valueOf("API_URL"), secretKey: valueOf("SECRET_KEY") };
}
