import { lookup } from "node:dns/promises";
import { isIP } from "node:net";
import { activityUrl } from "../../supabase/functions/_shared/activity-endpoint.ts";
import type { Manifest } from "../../supabase/functions/_shared/manifest.ts";
import { optionsOfActivity } from "../../supabase/functions/_shared/service-options.ts";
import { visible } from "../../supabase/functions/_shared/visible-text.ts";
import { type AddressSettings, createAddressPolicy } from "./address-policy.ts";
import { withTimeLimit } from "../time-limit.ts";

/** A name that is not known by then is not waited for: each call looks it up anew. */
const LOOKUP_MS = 3_000;

/**
 * Endpoints that this worker would refuse to call, a line each: told before it polls, and not by one failed call after the
 * other. Names that cannot be looked up now are no problem: an endpoint may come up later.
 */
export async function endpointProblems(manifest: Manifest, settings: AddressSettings): Promise<string[]> {
  const policy = createAddressPolicy(settings);
  const problems = await Promise.all(
    originsOf(manifest).map(async ([{ hostname, protocol, origin }, option]) => {
      const refusals = (await addressesOf(hostname)).map((address) =>
        policy.refusalOf(address, protocol === "https:" ? "https:" : "http:")
      );
      const isRefused = refusals.length > 0 && refusals.every((refusal) => refusal !== undefined);
      return isRefused ? [`${option}: ${visible(origin)}: ${[...new Set(refusals)].join("; ")}`] : [];
    }),
  );
  return problems.flat();
}

/** Where the activities are posted, each origin once, with an option that names it. */
function originsOf({ workflows, options }: Manifest): [URL, string][] {
  const origins = new Map<string, [URL, string]>();
  for (const name of workflows.flatMap(({ activities }) => activities)) {
    const { endpoint } = optionsOfActivity(options, name);
    if (endpoint === undefined) continue;
    const url = new URL(activityUrl(endpoint, name));
    const isOwn = endpoint !== options.activity_endpoint;
    const option = isOwn ? `options.activities.${name}.endpoint` : "options.activity_endpoint";
    if (!origins.has(url.origin)) origins.set(url.origin, [url, option]);
  }
  return [...origins.values()];
}

async function addressesOf(hostname: string): Promise<string[]> {
  const literal = hostname.replace(/^\[|\]$/g, "");
  if (isIP(literal) !== 0) return [literal];
  try {
    const found = await withTimeLimit(lookup(hostname, { all: true }), LOOKUP_MS, () => new Error("late"));
    return found.map(({ address }) => address);
  } catch {
    return [];
  }
}
