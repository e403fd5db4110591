import { createCachedCodeSource } from "./cached-code-source.ts";
import { type CodeSource, noCodeSource } from "./code-source.ts";
import { createSupabaseCodeSource } from "./supabase-code-source.ts";

/** Services' own code, as the settings say where it is. */
export function createCodeSource(
  settings: { SUPABASE_URL?: string | undefined; SUPABASE_SECRET_KEY?: string | undefined },
  cacheDirectory: string,
): CodeSource {
  const { SUPABASE_URL: url, SUPABASE_SECRET_KEY: secretKey } = settings;
  if (url === undefined || secretKey === undefined) return noCodeSource;
  return createCachedCodeSource(createSupabaseCodeSource({ url, secretKey }), cacheDirectory);
}
