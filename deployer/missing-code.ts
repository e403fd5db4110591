import type { Logger } from "pino";
import type { Upkeep } from "./upkeep.ts";

/**
 * Looks whether Storage has the code that services run from, and logs once of what it lacks: their workers run on without it,
 * but cannot be deployed again.
 */
export function createMissingCodeWatch(registry: Pick<Upkeep, "checkCode">, log: Logger): () => Promise<void> {
  let known = new Set<string>();
  return async () => {
    const missing = new Map((await registry.checkCode()).map((one) => [`${one.service_schema}/${one.code}`, one]));
    for (const [key, { service_schema, code, missing_since }] of missing) {
      if (known.has(key)) continue;
      const message =
        `Storage does not have the code ${code} of service "${service_schema}", and it cannot be deployed ` +
        `again: push it by \`osp code push ${service_schema} <directory>\``;
      log.warn({ event: "code.missing", service_schema, code, missing_since, message });
    }
    known = new Set(missing.keys());
  };
}
