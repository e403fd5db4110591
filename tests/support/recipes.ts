import { readFileSync } from "node:fs";

/** README.md's SQL blocks that read some rows, as they stand: not a line about each service. */
export function readFilteredRecipes(): string[] {
  const readme = readFileSync(new URL("../../README.md", import.meta.url), "utf8");
  const blocks = [...readme.matchAll(/^```sql\n([^]*?)^```/gm)].map(([, sql = ""]) => sql);
  return blocks.filter((sql) =>
    /^(select|with)\b/i.test(sql) && /\bwhere\b/i.test(sql) && !/\bosp\.\w+\s*\(/i.test(sql)
  );
}

/** The service that recipes about one service name. */
export const RECIPE_SERVICE = "healthcare_service_123";
