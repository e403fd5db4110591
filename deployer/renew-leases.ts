import { setTimeout as pause } from "node:timers/promises";
import type { Logger } from "pino";
import { createComplaint } from "./complaint.ts";
import type { Hands } from "./hands.ts";
import type { Registry } from "./registry.ts";

export interface RenewalDeps {
  hands: Hands;
  registry: Registry;
  renewSeconds: number;
  log: Logger;
}

/**
 * Prolongs the leases of what is in hand until `signal` aborts. All go together, without waiting for a row that somebody else
 * has locked; what that left out is then asked for one by one, beside the next ones that go together.
 */
export async function renewLeases(
  { hands, registry, renewSeconds, log }: RenewalDeps,
  signal: AbortSignal,
): Promise<void> {
  const complaint = createComplaint(log, "renewal");
  const rest = createRest({ hands, registry });
  while (!signal.aborted) {
    await pause(renewSeconds * 1000, undefined, { signal }).catch(() => {});
    const tokens = hands.tokens();
    if (tokens.length === 0) continue;
    const askedAt = performance.now();
    const renewals = await complaint.about(registry.renew(tokens), undefined);
    if (renewals === undefined) continue;
    for (const renewal of renewals) hands.renewed(renewal, askedAt);
    const renewed = new Set(renewals.map((renewal) => renewal.lease_token));
    rest.ask(tokens.filter((token) => !renewed.has(token)));
  }
  await rest.end();
}

/** Leases that did not go with the others: their rows are locked, or they are lost. One at a time is asked for. */
function createRest({ hands, registry }: Pick<RenewalDeps, "hands" | "registry">) {
  let waiting = new Set<string>();
  let asking: Promise<void> | undefined;

  const askAll = async () => {
    for (let [token] = waiting; token !== undefined; [token] = waiting) {
      waiting.delete(token);
      await askFor(token);
    }
    asking = undefined;
  };
  const askFor = async (token: string) => {
    const askedAt = performance.now();
    try {
      const renewal = await registry.renewAlone(token);
      if (renewal === undefined) hands.lost(token);
      else hands.renewed(renewal, askedAt);
    } catch {
      // Still locked, or the database is away: nobody knows. The lease runs out by our clock, unless the next renewal has it.
    }
  };
  return {
    /** In the place of those of the last time; whatever waits longest stays first, that rows locked for long are not all that is asked for. */
    ask(tokens: string[]) {
      const stillOut = new Set(tokens);
      waiting = new Set([...[...waiting].filter((token) => stillOut.has(token)), ...tokens]);
      if (waiting.size > 0) asking ??= askAll();
    },
    async end() {
      waiting.clear();
      await asking;
    },
  };
}
